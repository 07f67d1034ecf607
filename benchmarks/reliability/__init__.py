"""What breaks the example and the library, and what does not: one script for each kind of fault.

Each is `python benchmarks/reliability/NAME.py [--short]`. It says what it does in its first line, ends with exit code 1
if a figure is below its goal, and writes its figures as JSON, from which the tables of ``docs/reliability.md`` come.
``--short`` takes seconds, and is what the tests run. What all scripts share is in ``figures``.
"""
