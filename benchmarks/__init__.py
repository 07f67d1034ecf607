"""Speed and accuracy of the library. Results are JSON files in ``results/``; the tables of the docs come from them.

Commands, each ``python benchmarks/NAME.py``:

- ``affine_sample``: times the sampler against every other way to the same values.
- ``accuracy``: compares the sampler with float64.
- ``pipeline``: times the stages of the paper's pipeline.
- ``static_report``: compiles every kernel without a GPU and checks its machine code.
- ``tables``: updates the tables in README and docs from the newest results.

What ``affine_sample`` uses:

- ``cases``: the timed cases and the plans that choose among them.
- ``contestants``: the library and its rivals; to add a contestant, add it to the list there.
- ``correctness``: values and gradients in float64, and what counts as wrong.

What ``pipeline`` uses:

- ``pipeline_plan``: the sizes of its stages.
- ``pipeline_stages``: the stages, each with our way and the others.
- ``pipeline_peers``: the other ways.

What several use:

- ``budgets``: the tolerances of the sampler, which the tests share.
- ``machine_code``: reads NVIDIA machine code.
- ``markdown``: writes tables and numbers.
- ``measure``: clocks, turns, ratios, and the options of the timing commands.
- ``records``: where results come from and where they are kept.
- ``timing_tables``: the tables of times.
"""
