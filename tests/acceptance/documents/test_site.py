"""The manual is built as a site without a warning, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.support.shell import PYTHON, ROOT, environment

PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [PYTHON, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", folder / "trees",
         ROOT / "docs", folder / "html"],
        env=environment(), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_every_page_is_there_and_in_the_contents(site: Path) -> None:
    start = (site / "README.html").read_text(encoding="utf-8")
    contents = start.partition("sidebar-tree")[2].partition("</aside>")[0]
    for page in PAGES:
        assert (site / f"{page.stem}.html").is_file()
        assert page.stem == "README" or f'href="{page.stem}.html"' in contents, page.stem
    assert "README.html" in (site / "index.html").read_text(encoding="utf-8")


def test_no_link_or_picture_leads_nowhere(site: Path) -> None:
    seen = 0
    for page in PAGES:
        text = (site / f"{page.stem}.html").read_text(encoding="utf-8")
        for target in re.findall(r'(?:href|src)="([^":?]+)(?:\?[^"]*)?"', text):
            name, _, anchor = unquote(target).partition("#")
            there = site / (name or f"{page.stem}.html")
            assert there.is_file(), (page.stem, target)
            if anchor and there.suffix == ".html":
                assert f'id="{anchor}"' in there.read_text(encoding="utf-8"), (page.stem, target)
                seen += 1
    assert seen > 100


def test_the_page_of_the_python_api_has_the_docstrings(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in ("PredictionEngine.batch_predict", "EvaluationLogger.log_prediction",
                 "ConfigError", "start_retrain_monitor"):  # fmt: skip
        assert f".{name}" in text, name
