"""What a document names: paths of the checkout and dotted names of the package."""

from __future__ import annotations

import re
from importlib import import_module

from tests.support.shell import ROOT

# Of a path in a text: it begins with one of these, and a word in capitals is for the reader to put.
PLACES = r"(?:ml_pipeline|tests|docs|\.github|\.ci)"
MADE = {"ml_pipeline/logs/evaluation_log.csv"}


def named_paths(text: str) -> set[str]:
    """Paths of the checkout, without those that stand for others (`test_WORD.py`)."""
    found = set(re.findall(rf"(?<![\w./-]){PLACES}/[\w./*-]*", text))
    return {path for path in found if re.search(r"[A-Z]{4}", path) is None} - MADE


def missing_paths(text: str) -> list[str]:
    """Named paths that are not there."""
    return sorted(path for path in named_paths(text) if not any(ROOT.glob(path.rstrip("./"))))


def missing_modules(text: str) -> list[str]:
    """Dotted names of the package or of the tests that lead nowhere."""
    names = set(re.findall(r"(?<![\w./])((?:ml_pipeline|tests)(?:\.\w+)+)", text))
    return sorted(name for name in names if not _is_there(name))


def _is_there(name: str) -> bool:
    try:
        import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        try:
            return hasattr(import_module(module), attribute)
        except ModuleNotFoundError:
            return False
    return True
