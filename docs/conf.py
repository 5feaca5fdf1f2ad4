"""Sphinx settings. Neither build nor pages need a network, and every warning is an error."""

import importlib.metadata

project = "finwidth"
author = "the finwidth contributors"
copyright = author
release = version = importlib.metadata.version("finwidth")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",  # MathJax beside the pages
]
exclude_patterns = ["_build", "jupyter_execute"]

html_theme = "furo"
html_title = f"finwidth {release}"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

# Tutorials are notebooks in text form; they are executed anew at every build.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "remove"  # progress, and what libraries say of the notebook itself

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_rtype = False


def keep_bars(app, what, name, obj, options, lines):
    """Leave |x| an absolute value; reStructuredText would look for a substitution."""
    for i, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
        lines[i] = "``".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", keep_bars)
