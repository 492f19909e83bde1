"""Sphinx: `python -m sphinx --fail-on-warning docs reports/docs` builds the pages, offline."""

project = "Stress-test harness"
extensions = ["myst_parser"]
myst_heading_anchors = 3

html_show_copyright = False
html_theme = "furo"
html_title = project
html_show_sphinx = False
html_copy_source = False
