"""Speed and accuracy of the library. Results are JSON files in ``results/``; the tables of the docs come from them.

The commands, each ``python benchmarks/NAME.py``, and what only they use (``accuracy`` uses nothing alone):

- ``affine_sample``: ``cases``, ``contestants``, ``correctness``.
- ``pipeline``: ``pipeline_plan``, ``pipeline_stages``, ``pipeline_peers``.
- ``static_report``: ``machine_code``; ``tables``: ``timing_tables``.
"""
