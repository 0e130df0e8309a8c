"""The manual as a site: `pip install "auto-reinforcement[docs]"`, `sphinx-build -W docs site`.

The pages stand on it in the order and under the headings of the manual's own list.
"""

from __future__ import annotations

import re
from typing import Any

from ml_pipeline import __version__

project = "ml_pipeline"
release = __version__
root_doc = "README"
html_extra_path = ["index.html"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"ml_pipeline {release}"
html_show_sphinx = False
html_show_copyright = False
myst_heading_anchors = 3
default_role = "code"
autodoc_member_order = "bysource"


def listed(_app: object, name: str, source: list[str]) -> None:
    """Make the list of pages the site's contents, too; name files that are beside the manual."""
    source[0] = re.sub(r"\[([^\]]*)\]\(\.\./([A-Z]+\.md)\)", r"\1 (`\2`)", source[0])
    if name != root_doc:
        return
    contents = ""
    for heading, pages in re.findall(r"^([A-Z][\w ]+):\n\n((?:- .*\n)+)", source[0], re.MULTILINE):
        names = "\n".join(re.findall(r"^- \[.*?\]\((\S+)\.md\)", pages, re.MULTILINE))
        contents += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{names}\n```\n"
    source[0] += contents


def setup(app: Any) -> None:  # noqa: ANN401 - of the builder, which the package does not know
    """Called by the builder."""
    app.connect("source-read", listed)
