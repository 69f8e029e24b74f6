"""Configuration of the documentation: ``python -m sphinx -W docs docs/_build/html``."""

from __future__ import annotations

import os
import re
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "ipar"
author = "The ipar developers"
copyright = "2026, The ipar developers"
version = release = installed_version("ipar")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints", "tutorials/README.md"]
default_role = "py:obj"  # a single backtick that names no object, such as a parameter, is shown as code

# links into other projects need their inventories from the network, so that only the hosted build has them
if "READTHEDOCS" in os.environ:
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3/", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }

autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
# types stand in the signature alone, one parameter a line: docstrings do not repeat them
autodoc_typehints = "signature"
autodoc_type_aliases = {name: name for name in ("ArrayLike", "AxesLike", "FloatArray", "Floats", "Transformer")}
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_google_docstring = False
# as written, in prose or as a definition list: napoleon takes prose for types, and two attributes on a line for one
napoleon_custom_sections = ["Attributes", "Returns"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # outputs are committed, and a test executes the notebooks

html_theme = "sphinx_book_theme"
html_title = f"ipar {release}"
html_favicon = "images/favicon.svg"
# the sidebar unfolds around the page that is read; the whole API in every sidebar took most of the time of a build
html_theme_options = {
    "logo": {"image_light": "images/logo.svg", "image_dark": "images/logo-dark.svg", "alt_text": "ipar"},
    "show_toc_level": 2,
    "show_navbar_depth": 1,
    "collapse_navbar": True,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# what autodoc makes of some annotations and defaults, and what a reader makes of them
_SIGNATURE = {
    r"TypeAliasForwardRef\('(\w+)'\)": r"\1",
    r"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[([^\[\]]+)\]\]": r"NDArray[\1]",
    r"<factory>": "...",
}


def _readable(signature: str | None) -> str | None:
    if signature is not None:
        for pattern, plain in _SIGNATURE.items():
            signature = re.sub(pattern, plain, signature)
    return signature


def _process_signature(*event: Any) -> tuple[str | None, str | None]:
    *_, signature, returns = event
    return _readable(signature), _readable(returns)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", _process_signature)
