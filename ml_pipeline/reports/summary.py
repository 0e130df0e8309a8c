"""The result of a run: as tables on a terminal, and as Markdown for the summary of a CI job."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_pipeline.printable import plain_markdown as plain
from ml_pipeline.reports import terminal

if TYPE_CHECKING:
    from rich.table import Table

    from ml_pipeline.reports.terminal import Part

SHOWN_ERRORS = 20
METRICS = ("accuracy", "precision", "recall", "f1_score", "log_loss", "brier")


def view(result: Mapping[str, Any], *, target: str) -> Iterator[Part]:
    """The error samples, both models' metrics and the outcome of a run."""
    if result.get("dataset_size") and result.get("dataset_path"):
        yield _errors(Path(result["dataset_path"]), target)
    if result["metrics"]:
        yield _metrics(result)
    yield str(result["outcome_reason"])
    yield (
        f"{result['dataset_size']} confident errors; trained on {result['training_rows']} "
        f"labelled rows. Champion now: {result['champion'] or 'none'}."
    )
    if result.get("error"):
        yield f"Error: {result['error'].splitlines()[0]}"


def _errors(path: Path, target: str) -> Table:
    with path.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: -float(row["confidence"]))
    title = "Where the model was confidently wrong"
    if len(rows) > SHOWN_ERRORS:
        title += f" (the {SHOWN_ERRORS} most confident of {len(rows)})"
    cells = [
        (row["match_id"] or row["event_id"], row["prediction"],
         f"{float(row['confidence']):.3f}", row[target])
        for row in rows[:SHOWN_ERRORS]
    ]  # fmt: skip
    names = ("id", "predicted", "confidence", "actual")
    return terminal.table(title, names, cells, right={"confidence"})


def _metrics(result: Mapping[str, Any]) -> Table:
    sides = (result["champion_metrics"], result["metrics"])
    rows = [
        (name, *("" if side.get(name) is None else f"{side[name]:.4f}" for side in sides))
        for name in METRICS
    ]
    names = ("", "champion", "challenger")
    return terminal.table("Both models on the same new results", names, rows, right=names[1:])


def figures_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says without quoting a row: codes, ids of models and runs, numbers.

    The sentence of a run that failed, or that met results it could not use, names values and
    events; it is left out.
    """
    unusable = (result.get("load_report") or {}).get("unusable", 0)
    quotes = result.get("status") != "completed" or bool(unusable)
    sentence = {} if quotes else {"outcome_reason": result.get("outcome_reason")}
    checks = (result.get("decision") or {}).get("checks", [])
    found: dict[str, Any] = {
        **{name: result.get(name) for name in _CODES},
        **sentence,
        **{name: _numbers(result.get(name)) for name in _METRICS_OF},
        "checks": [{name: check.get(name) for name in ("name", "passed")} for check in checks],
    }
    return {name: value for name, value in found.items() if value not in (None, {}, [])}


def _numbers(values: object) -> dict[str, float]:
    found = values if isinstance(values, Mapping) else {}
    return {
        str(name): value
        for name, value in found.items()
        if isinstance(value, int | float) and name in METRICS
    }


def as_markdown(result: Mapping[str, Any]) -> str:
    """Figures as Markdown. Whatever stands in them is shown as text, never as markup."""
    outcome = result.get("outcome") or result.get("status") or "unknown"
    lines = [f"## Outcome: {plain(str(outcome).replace('_', ' '))}", ""]
    reason = result.get("outcome_reason") or _WHERE
    lines += [plain(reason), ""]
    challenger = result.get("challenger_metrics") or result.get("metrics") or {}
    champion = result.get("champion_metrics") or {}
    if challenger:
        lines += ["| on the same new results | champion | challenger |", "|---|---:|---:|"]
        for name in METRICS:
            values = (champion.get(name), challenger.get(name))
            cells = ["" if value is None else f"{value:.4f}" for value in values]
            lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
        lines.append("")
    for check in result.get("checks", ()):
        lines.append(f"- {'Passed' if check['passed'] else 'Not passed'}: {plain(check['name'])}")
    for title, name in _FACTS.items():
        if result.get(name) is not None:
            lines.append(f"- {title}: {plain(result[name])}")
    return "\n".join(lines) + "\n"


_WHERE: Final = "The log of this job says why."
_CODES: Final = (
    "status", "outcome", "source", "run_id", "model_id", "algorithm", "fine_tune", "champion",
    "challenger", "dataset_size", "training_rows", "holdout_rows", "duration_s", "timestamp",
)  # fmt: skip
_METRICS_OF: Final = ("metrics", "champion_metrics", "challenger_metrics")
_FACTS: Mapping[str, str] = {
    "Champion now": "champion",
    "Confident errors": "dataset_size",
    "Training rows": "training_rows",
    "Run": "run_id",
}
