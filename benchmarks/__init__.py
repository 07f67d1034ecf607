"""Speed and accuracy of the library, and what becomes of its windows.

Results are JSON files in ``results/``, written by ``saving``; the tables of the docs come from them.

The commands, each ``python benchmarks/NAME.py``, and the files that only they use (``accuracy`` and ``graphs`` have
none):

- ``affine_sample``: ``cases``, ``contestants``, ``correctness``.
- ``attention``: ``attention_scenes``, ``attention_tables``; ``attention_picture`` draws one of its settings.
- ``moving_picture``: the picture of the README, from the first tutorial.
- ``device_session``: ``device_steps``, ``launch_tables``.
- ``host_time``: ``stub_driver``. ``device_session`` measures the same on a GPU.
- ``pipeline``: ``pipeline_plan``, ``pipeline_stages``, ``pipeline_peers``.
- ``static_report``: ``machine_code``; ``tables``: ``timing_tables``.

What faults do is measured by the scripts in ``reliability/``.
"""
