"""The figures of a command's result as Markdown, for the summary of a CI job.

`python -m ml_pipeline.summary result.json` prints the Markdown of what a command printed; with a
second file the figures are written there as JSON. Rows and texts stay in the result: whoever sees
the repository sees its jobs' summaries and files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ml_pipeline.reports.summary import as_markdown, figures_of


def main(argv: list[str] | None = None) -> int:
    """Print the Markdown of a result file; a missing file is reported, not a fault."""
    name, *more = sys.argv[1:] if argv is None else argv
    try:
        text = Path(name).read_text(encoding="utf-8").strip()
        result = json.loads(text.splitlines()[-1]) if text else None
    except FileNotFoundError:
        result = None
    if result is None:
        sys.stdout.write("## No result\n\nAn earlier step failed: its log says why.\n")
        return 0
    figures = figures_of(result)
    for place in more:
        Path(place).write_text(json.dumps(figures, allow_nan=False) + "\n", encoding="utf-8")
    sys.stdout.write(as_markdown(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
