"""Sphinx's configuration of the report site; `make docs` builds it from the pages that pages.py lays out."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the API reference imports the package from the clone

project = "advanced-optimizers"
author = copyright = "advanced-optimizers contributors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
root_doc = "index"

# Markdown as GitHub reads it: dollars around formulas, anchors of headings, no directives of our own.
myst_enable_extensions = ["dollarmath", "strikethrough", "tasklist"]
myst_heading_anchors = 4
myst_dmath_allow_space = False
myst_dmath_allow_digits = False
myst_dmath_allow_labels = False
nb_execution_mode = "off"  # the stored outputs are the full profile's; running would take the records' hours
nb_render_markdown_format = "myst"  # tables and formulas in a cell's output

# MathJax in one file with all TeX packages and glyphs as SVG, so that a page loads nothing else, no font either.
_mathjax = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax/tex-svg-full.js"
mathjax_path = _mathjax.name

autodoc_member_order = "bysource"
autosummary_generate = False
# Signatures keep the names of their types, and a long one has a line per argument.
autodoc_type_aliases = {name: name for name in ("BaseOptimizer", "ParamsT")}
autodoc_typehints_format = "short"
add_module_names = False
python_maximum_signature_line_length = 120  # with the module's name
autodoc_inherit_docstrings = False  # frameworks call what a callback overrides; nobody looks it up here
napoleon_use_ivar = (
    True  # attributes of a docstring in its list of fields: as entries of their own they would double properties
)
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "advanced-optimizers"
html_static_path = ["static", str(_mathjax)]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False


def _skip(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leaves out what a NamedTuple says of its fields by itself: "Alias for field number 0"."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def _name_classes(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Writes the default "<class 'torch.optim.adam.Adam'>" as "Adam": what is not Python is not laid out."""
    return signature and re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", signature), returns


def _glue_punctuation(app: Sphinx, doctree: nodes.document) -> None:
    """Keeps a comma on the line of the formula before it: browsers break a line after what they take for a picture."""
    for formula in list(doctree.findall(nodes.math)):
        after = formula.next_node(descend=False, siblings=True)
        if isinstance(after, nodes.Text) and after[0] in ".,;:)":
            after.parent.replace(after, nodes.Text(f"\N{WORD JOINER}{after}"))


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("doctree-read", _glue_punctuation)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _name_classes)
