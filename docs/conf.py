"""Sphinx: `python -m sphinx --fail-on-warning docs reports/docs` builds the pages, offline."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "Stress-test harness"
extensions = ["myst_parser", "sphinx.ext.autodoc", "from_the_code"]
myst_heading_anchors = 3
default_role = "literal"  # Single backticks in docstrings mean code, as in Markdown.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100

html_show_copyright = False
html_theme = "furo"
html_title = project
html_show_sphinx = False
html_copy_source = False
