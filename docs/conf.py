"""How the documentation is built: `python -m sphinx -W docs docs/_build`. It needs no network, nor do its readers."""

from importlib.metadata import version as version_of

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

project = "supervised-st"
author = "The supervised-st authors"
copyright = f"2026, {author}"
release = version = version_of("supervised-st")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 2
exclude_patterns = ["_build", "_templates", "gallery", "inventories"]
templates_path = ["_templates"]
default_role = "py:obj"  # names that are documented become links

autodoc_default_options = {"exclude-members": "extra_repr, get_extra_state, set_extra_state"}
autodoc_mock_imports = ["lightning"]  # it need not be installed
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_custom_sections = [(name, "notes_style") for name in ("Convention", "Images", "Reference")]

# The few names of other projects that signatures mention. These lists are read, not their whole inventories.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3/", "inventories/python.txt"),
    "torch": ("https://docs.pytorch.org/docs/stable/", "inventories/torch.txt"),
}

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"\.py",  # all are run
    "abort_on_example_error": True,
    "backreferences_dir": "api/tutorials",  # which tutorials use a name
    "doc_module": "supervised_st",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "image_scrapers": ("matplotlib",),
    "image_srcset": ["2x"],  # sharp on dense displays
    "min_reported_time": 1000,
    "write_computation_times": False,
    "show_signature": False,
}

html_theme = "furo"
html_title = "supervised-st"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"


def write_inline_math(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula as MathML, which browsers show without a script."""
    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def write_block_math(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula in lines of its own."""
    self.body.append(self.starttag(node, "div", CLASS="math"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})</span>')
    self.body.append(f"{tex2mathml(node.astext(), as_block=True)}</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Add the renderer of formulas."""
    app.add_html_math_renderer("mathml", (write_inline_math, None), (write_block_math, None))
