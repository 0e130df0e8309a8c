"""The result of a command as Markdown, for the summary of a CI job.

`python -m ml_pipeline.summary result.json` prints the Markdown of what a command printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_pipeline.reports.summary import as_markdown


def main(argv: list[str] | None = None) -> int:
    """Print the Markdown of a result file; a missing file is reported, not a fault."""
    (name,) = sys.argv[1:] if argv is None else argv
    try:
        text = Path(name).read_text(encoding="utf-8").strip()
        result = json.loads(text.splitlines()[-1]) if text else None
    except FileNotFoundError:
        result = None
    if result is None:
        sys.stdout.write("## No result\n\nAn earlier step failed: its log says why.\n")
        return 0
    sys.stdout.write(_report_of(result) or as_markdown(result))
    return 0


def _report_of(result: Mapping[str, Any]) -> str | None:
    """The Markdown report that a run left beside its files, if it did."""
    path = result.get("report_markdown")
    return Path(path).read_text(encoding="utf-8") if path and Path(path).is_file() else None


if __name__ == "__main__":
    sys.exit(main())
