"""`init --from FILE --target COL`: from somebody's own file to settings, and to a first verdict."""

from __future__ import annotations

import argparse
import logging
import os
import re
import time
from pathlib import Path
from typing import Any, Final

from ml_pipeline.commands import common, init_log, init_questions, init_settings, init_trial
from ml_pipeline.commands.init_settings import Origin
from ml_pipeline.config.defaults import CONFIG_FILE, MODEL_NAME
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.datasets.dataset import LOG
from ml_pipeline.datasets.inspection.inspecting import Inspection, Wishes, inspect
from ml_pipeline.datasets.inspection.table import Table, read_table
from ml_pipeline.errors import ConfigError, DataError
from ml_pipeline.evaluation_log.rules import LABELLED_COLUMNS
from ml_pipeline.reports import terminal
from ml_pipeline.store.opening import open_store

log = logging.getLogger("init")

_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_NAME: Final = 64
_LISTED: Final = 12


def write(args: argparse.Namespace) -> dict[str, Any]:
    """Look at the rows, write the settings, say what was found, and try the loop on them.

    Raises ConfigError for settings that are there already, unless `args.force`, and DataError for
    rows of which no classifier can be made; then nothing is written.
    """
    path = Path(args.config or CONFIG_FILE)
    if path.exists() and not args.force:
        raise init_settings.exists_already(path)
    decided: list[str] = []
    table, wishes, origin = _of_log(args) if args.from_log else _of_file(args)
    least = Settings().training.min_training_samples
    found = inspect(table, wishes, init_questions.asker(decided), least_rows=least)
    init_settings.write(path, init_settings.compose(found, origin))
    if not args.quiet:
        _show(found, path)
    result = _described(found) | {"status": "written", "config": str(path), "decided": decided}
    return result | _tried(found, path, is_quiet=args.quiet)


def _of_file(args: argparse.Namespace) -> tuple[Table, Wishes, Origin]:
    table = read_table(Path(args.file))
    wishes = Wishes(
        target=args.target, id_column=args.id, time_column=args.time, reserved=LABELLED_COLUMNS
    )
    return table, wishes, Origin(model_name=_model_name(table), training_dataset=_relative(table))


def _of_log(args: argparse.Namespace) -> tuple[Table, Wishes, Origin]:
    """The log has its own target, time and id. Raises ConfigError for flags that name others."""
    if args.target or args.id or args.time:
        raise ConfigError(
            "--from-log takes no --target, --id and --time: the log has its own.",
            hint="Leave them out.",
        )
    model_name = load_settings(common.path_or_none(args.config)).model_name
    store = open_store(load_store_settings(args.local))
    try:
        table = init_log.read_log(store, model_name)
    finally:
        store.close()
    wishes = Wishes(
        target=init_log.ACTUAL, time_column=init_log.KNOWN_AT, id_column=init_log.MATCH_ID,
        reserved=LABELLED_COLUMNS,
    )  # fmt: skip
    return table, wishes, Origin(model_name=model_name, training_dataset=LOG, is_log=True)


def _tried(found: Inspection, path: Path, *, is_quiet: bool) -> dict[str, Any]:
    """The verdict of a short backtest, or why there is none."""
    started = time.monotonic()
    log.info("Trying the loop on these rows, for %d seconds at most", init_trial.LIMIT_S)
    try:
        trial = init_trial.try_out(found, load_settings(path), started=started)
    except DataError as error:
        sentence = f"It cannot be told yet whether the loop would help you: {error.message}"
        terminal.show(*([] if is_quiet else [sentence]))
        return {"verdict": sentence, "backtest": None}
    if not is_quiet:
        terminal.show(*init_trial.shown(trial), f"Next: `{_next(path)}`")
    figures = trial.as_json() | {"seconds": round(time.monotonic() - started, 1)}
    return {"verdict": trial.sentence(), "backtest": figures, "next": _next(path)}


def _next(path: Path) -> str:
    named = "" if str(path) == CONFIG_FILE else f" --config {path}"
    return f"ml-pipeline train --register{named}"


def _model_name(table: Table) -> str:
    """The file's name, as far as a model may be called so."""
    stem = Path(table.source).name.partition(".")[0]
    return _NAME.sub("-", stem).strip("-_")[:_LONGEST_NAME] or MODEL_NAME


def _relative(table: Table) -> str:
    """The file's path from the working directory, from which commands read it, if it is below."""
    path = Path(table.source).absolute()
    inside = path.is_relative_to(Path.cwd())
    return os.path.relpath(path) if inside else str(path)


# ---------------------------------------------------------------------------- for people


def _show(found: Inspection, path: Path) -> None:
    classes = found.classes
    columns = [
        (f.name, f.kind.value, f"{f.missing:.1%}" if f.missing else "", f.reason)
        for f in found.features
    ]
    columns += [(name, "left out", "", why) for name, why in found.left_out.items()]
    terminal.show(
        terminal.table("Columns", ["column", "read as", "missing", "why"], columns,
                       right=("missing",), fold=True),
        f"{found.table.source}: {found.table.rows:,} rows, {classes.rows:,} with a result.",
        f"To predict: {found.target}, one of "
        + ", ".join(f"{label} ({classes.share(label):.1%})" for label in classes.counts) + ".",
        f"Time: {found.time_column or 'none; rows are held out by their content'}. "
        f"Id: {found.id_column or 'none'}"
        + (", of several rows each." if found.id_repeats else "."),
        *warnings(found),
        f"Wrote {path}.",
    )  # fmt: skip


def warnings(found: Inspection) -> list[str]:
    """What may go wrong with these data, as sentences."""
    classes, sentences = found.classes, list[str]()
    sample = len(found.frame)
    if sample < classes.rows:
        sentences.append(
            f"Kinds and gaps were told from {sample:,} rows, spread evenly over the file."
        )
    if classes.unlabelled:
        sentences.append(f"{classes.unlabelled:,} rows have no {found.target} and are not learned.")
    kept = set(found.names)
    for suspect in found.suspects:
        end = "It stays a feature." if suspect.name in kept else "It was left out."
        sentences.append(f"Possible leakage: {suspect.sentence(found.target)}. {end}")
    rare = classes.rare()
    if rare:
        shown = ", ".join(f"{label} ({count})" for label, count in list(rare.items())[:_LISTED])
        sentences.append(f"Classes with hardly enough rows to learn them: {shown}.")
    if classes.is_imbalanced:
        label, usual = classes.rarest, classes.majority
        sentences.append(
            f"{classes.share(label):.1%} of the rows are {label}: always answering {usual} would "
            f"be right {classes.share(usual):.1%} of the time, so look at recall and log loss "
            "beside accuracy."
        )
    return sentences


def _described(found: Inspection) -> dict[str, Any]:
    return {
        "source": found.table.source,
        "rows": found.table.rows,
        "sampled_rows": len(found.table.frame),
        "target": found.target,
        "classes": found.classes.counts,
        "unlabelled": found.classes.unlabelled,
        "time_column": found.time_column,
        "id_column": found.id_column,
        "id_repeats": found.id_repeats,
        "features": {feature.name: feature.kind.value for feature in found.features},
        "missing": {f.name: round(f.missing, 4) for f in found.features if f.missing},
        "text_column": found.text_column,
        "left_out": found.left_out,
        "suspects": [
            {
                "column": suspect.name,
                "relation": suspect.relation.value,
                "share_of_errors_spared": round(suspect.spared, 4),
                "kept": suspect.name in found.names,
            }
            for suspect in found.suspects
        ],
        "rare_classes": found.classes.rare(),
        "warnings": warnings(found),
    }
