"""Erase a person's rows: `ml-pipeline erase`.

Events go by match id or by event id, with everything that was kept of them: the table, the CSV
log, labels, the files, details, logs and reports of runs. Hashes of their ids stay, so that no
repair and no import brings them back. The next run learns again without them. It may be repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ml_pipeline.commands import common
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import Settings, load_settings, work_dir
from ml_pipeline.errors import InputError
from ml_pipeline.evaluation_log import opening
from ml_pipeline.evaluation_log.recording.parsed import KEYS

EXAMPLES = (
    "erase --id customer-17 --dry-run",
    "erase --csv ids.csv",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `erase`."""
    common.add_common(parser, *EXAMPLES)
    add = parser.add_argument
    add("--match-id", "--id", action="append", default=[], help="everything of it; repeatable")
    add("--event-id", action="append", default=[], help="one prediction; repeatable")
    add("--csv", help="file with a column event_id or match_id, or both")
    add("--dry-run", action="store_true", help="count what would go, and change nothing")


def run(args: argparse.Namespace) -> int:
    """Erase, and print how many rows of which place went and what cannot be reached."""
    from ml_pipeline.runs.erasing.erasing import OWN_SOURCE, Erasure, erase
    from ml_pipeline.store.event_row import some

    settings = load_settings(common.path_or_none(args.config))
    chosen = load_store_settings(local_dir=args.local)
    ids = {"event_id": set(args.event_id), "match_id": set(args.match_id)}
    if args.csv:
        for key, values in _read(Path(args.csv), settings).items():
            ids[key] |= values
    if not any(ids.values()) or not all(map(all, ids.values())):
        raise InputError("Give --match-id or --event-id, or --csv FILE with such a column.")
    asked = Erasure(
        event_ids=frozenset(ids["event_id"]),
        match_ids=frozenset(ids["match_id"]),
        work_dir=work_dir(settings, chosen.local_dir),
        dry_run=args.dry_run,
    )
    with opening.open_logger(settings, chosen) as logger:
        if logger.open_store is None:
            raise InputError("There is no store to erase from.")
        store = logger.open_store()
        try:
            report = erase(store, logger, settings, asked)
        finally:
            store.close()
    if missing := report["without_prediction"]:
        common.say(
            f"No prediction was found of {some(missing)}: erased before, or written otherwise "
            "(match ids count as they were logged, capitals and spaces included)."
        )
    for kept in report["not_reached"]:
        if kept["place"].startswith(OWN_SOURCE):
            common.say(f"Nothing was erased from {kept['place']}. {kept['do']}")
    common.answer(args, report)
    return 0


def _read(path: Path, settings: Settings) -> dict[str, set[str]]:
    """The ids of a file. Raises DataError for one that cannot be read, InputError without ids."""
    from ml_pipeline.datasets.csv_file import CsvFile
    from ml_pipeline.store.inputs.columns import listed
    from ml_pipeline.store.inputs.labels import id_cell

    file = CsvFile.opened(path)
    places = file.places({key: settings.spellings(key) for key in KEYS})
    if not places:
        raise InputError(
            f"{path} needs a column event_id or match_id.", hint=f"It has: {listed(file.names)}."
        )
    found: dict[str, set[str]] = {key: set() for key in KEYS}
    for number, row in file.records():
        cells = {key: id_cell(row[place]) for key, place in places.items()}
        if not any(cells.values()):
            raise InputError(f"{path}, line {number}: no id. Nothing was erased.")
        for key, cell in cells.items():
            if cell:
                found[key].add(cell)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main("erase", __doc__, add_arguments, run, argv)
