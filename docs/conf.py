"""How the documentation is built: `python -m sphinx -W docs docs/_build`."""

from importlib.metadata import version as version_of

project = "supervised-st"
author = "The supervised-st authors"
release = version = version_of("supervised-st")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 2
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
default_role = "code"
napoleon_google_docstring = True
napoleon_custom_sections = [("Convention", "notes_style"), ("Reference", "notes_style")]

html_theme = "furo"
html_title = "supervised-st"
