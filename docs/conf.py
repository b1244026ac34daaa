"""How Sphinx builds these pages: `make docs`; tutorials run while it does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nequip.version import VERSION

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for `generators`

# The tutorials call the commands of this environment, on one thread each.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "e3forge"
author = "The e3forge developers"
copyright = author
version = release = VERSION

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generators.directive",
    "generators.streams",
]
exclude_patterns = ["_build", "jupyter_execute", "generators"]

html_theme = "furo"
html_title = f"e3forge {VERSION}"

myst_heading_anchors = 3

# Always run, never from a cache: a cache knows the text of a page, not the code behind it.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

# Docstrings are plain text with `code` in backticks; the signature carries units and shapes.
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"IntArray": "IntArray", "FloatArray": "FloatArray"}
napoleon_numpy_docstring = False
