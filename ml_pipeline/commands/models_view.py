"""What a person sees of registered models on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ml_pipeline.commands.in_words import state_of
from ml_pipeline.reports import terminal
from ml_pipeline.reports.terminal import Part
from ml_pipeline.store.records import ModelState

SHOWN: Final = 30
_METRICS: Final = ("accuracy", "log_loss", "f1_score", "brier")


def view(action: str, result: Mapping[str, Any]) -> Iterator[Part]:
    """The result of an action of `models`."""
    if action == "list":
        yield from _list(result)
    elif action == "show":
        yield from _show(result)
    elif action == "compare":
        yield from _compare(result)
    else:
        yield terminal.facts(result)


def _list(result: Mapping[str, Any]) -> Iterator[Part]:
    models = result["models"]
    if not models:
        yield "No model is registered yet. `ml-pipeline train --register` trains the first one."
        return
    # A serving model may be older than what is shown of the others.
    shown = [
        model
        for place, model in enumerate(models)
        if place < SHOWN or model["state"] == ModelState.CHAMPION
    ]
    rows = [
        (model["model_id"], terminal.coloured(*state_of(model["state"])),
         model["created_at"][:10], _figure(model["metrics"].get("accuracy")))
        for model in shown
    ]  # fmt: skip
    columns = ("model", "state", "made on", "accuracy")
    yield terminal.table("", columns, rows, right={"accuracy"}, fold=True)
    if len(shown) < len(models):
        yield f"{len(models) - len(shown):,} older ones are in `ml-pipeline models list --json`."


def _show(result: Mapping[str, Any]) -> Iterator[Part]:
    memories = result["memories"] or {}
    facts = {
        name: value
        for name, value in result.items()
        if name not in {"metrics", "library_versions", "history", "memories"} and value is not None
    }
    yield terminal.facts(facts | {"libraries": result["library_versions"]})
    metrics = [(name, _figure(result["metrics"][name])) for name in _METRICS
               if name in result["metrics"]]  # fmt: skip
    if metrics:
        yield terminal.table("When it was judged", ("measure", "value"), metrics, right={"value"})
    if memories.get("sentence"):
        yield str(memories["sentence"])
    for event in result["history"]:
        yield f"{event['at'][:16].replace('T', ' ')}  {event['kind']}: {event['reason']}"


def _compare(result: Mapping[str, Any]) -> Iterator[Part]:
    gain = result["gain"]
    names = [
        name for name, value in result.items() if isinstance(value, Mapping) and name != "gain"
    ]
    rows = [
        (measure, *(_figure(result[name].get(measure)) for name in names)) for measure in _METRICS
    ]
    first, second = (names * 2)[:2]
    columns = ("", "first", "second")
    yield terminal.table(
        f"On {result['rows']:,} results that neither has learned", columns,
        [row if len(row) > 2 else (*row, row[1]) for row in rows],  # noqa: PLR2004 - one with itself
        right=columns[1:],
    )  # fmt: skip
    yield f"First: {first}"
    yield f"Second: {second}"
    less = "less" if gain["mean"] >= 0 else "more"
    yield (
        f"The second loses {abs(gain['mean']):.4f} {less} log loss a result "
        f"(standard error {gain['standard_error']:.4f})."
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
