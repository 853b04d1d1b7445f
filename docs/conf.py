"""Settings of the Sphinx site: MyST for Markdown, furo for looks, autodoc for the API."""

from importlib.metadata import version

project = "steersman"
author = "The steersman authors"
release = version("steersman")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"steersman {release}"
html_static_path: list[str] = []
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
nitpicky = False
