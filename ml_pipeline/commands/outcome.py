"""Record what really happened: `ml-pipeline outcome`.

Outcomes come by event id or by match id, one or thousands. The accuracy follows from them. An
outcome that contradicts one that stands is refused and listed, the others are recorded. With
--correct it replaces the one that stands, and the next run learns that day again.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ml_pipeline.commands import common
from ml_pipeline.config.environment import chosen_store
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.errors import InputError
from ml_pipeline.evaluation_log import opening
from ml_pipeline.evaluation_log.outcomes import read_outcomes, record
from ml_pipeline.evaluation_log.recording.parsed import COMPLETED, KEYS, ParsedOutcome
from ml_pipeline.evaluation_log.recording.settling import Correction
from ml_pipeline.store.inputs.corrections import caller

WAITING = "waiting"

EXAMPLES = (
    "outcome --event-id 5f0c7a52-0f0e-4c5b-9d42-8a54c2f8a0b1 --actual H",
    "outcome --id match-17 --actual H",
    "outcome --csv results.csv",
    "outcome --id match-17 --actual D --correct",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `outcome`."""
    common.add_common(parser, *EXAMPLES)
    add = parser.add_argument
    add("--event-id", help="the prediction whose outcome is known")
    add("--match-id", "--id", help="the match whose outcome is known; all predictions of it get it")
    add("--actual", help="what really happened, a label")
    add(
        "--csv",
        help="file with event_id or match_id, actual_result, and evaluated_at if known; "
        "id and result may be called as in the settings",
    )
    add(
        "--correct",
        action="store_true",
        help="replace a recorded outcome; the former one is kept in the event's metadata",
    )
    add(
        "--allow-outbox",
        action="store_true",
        help="exit code 0 also when the store is away and the outcomes wait in the CSV log",
    )


def run(args: argparse.Namespace, *, now: datetime) -> int:
    """Record outcomes and print the report; exit code 1 when one did not get where it belongs."""
    settings = load_settings(common.path_or_none(args.config))
    outcomes, blank = _read(args, settings, now)
    correction = None
    if args.correct:
        correction = Correction(now=now, by=f"outcome --correct, {caller()}")
    logger = opening.open_logger(settings, chosen_store(args.local))
    try:
        store = None if logger.open_store is None else logger.open_store()
        try:
            report = record(logger, store, outcomes, settings, correction=correction)
        finally:
            if store is not None:
                store.close()
        waiting = logger.settle()
    finally:
        logger.close()
    result = report.as_json() | {
        "without_outcome": blank, "csv": logger.csv.path, "waiting_bytes": waiting
    }  # fmt: skip
    if (waiting or report.away) and result["status"] == COMPLETED:
        result["status"] = WAITING
        common.say(_waiting(logger, report.away))
    common.answer(args, result)
    passes = {COMPLETED, WAITING} if args.allow_outbox else {COMPLETED}
    return 0 if result["status"] in passes else 1


def _waiting(logger: opening.MLLogger, away: str) -> str:
    """Why the outcomes are not in the store, and how they get there."""
    path = logger.csv.path
    if logger.open_store is None:
        cause = (
            "No store is named: set SUPABASE_URL and SUPABASE_SERVICE_KEY, or pass --local DIR "
            f"and set ML_PIPELINE__LOG__CSV_FILE={path}, and repeat the command."
        )
    else:
        reason = (logger.away or away).rstrip(".") or "it did not take all of them"
        cause = f"The reason: {reason}. Repeat the command when the store answers."
    return (
        f"{path} may hold events that are not in the store. {cause} "
        "To let them wait on purpose, pass --allow-outbox."
    )


def _read(
    args: argparse.Namespace, settings: Settings, now: datetime
) -> tuple[list[ParsedOutcome], int]:
    single = [(key, getattr(args, key)) for key in KEYS if getattr(args, key)]
    if args.csv:
        if single or args.actual:
            raise InputError("Give either --csv or one outcome, not both.")
        return read_outcomes(Path(args.csv), settings, now)
    if len(single) != 1 or not args.actual:
        raise InputError("Give --event-id or --match-id with --actual, or --csv FILE.")
    key, value = single[0]
    tolerance = timedelta(minutes=settings.log.future_tolerance_minutes)
    return [
        ParsedOutcome(key=key, value=value, actual=args.actual, known_at=now, span=tolerance)
    ], 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "outcome", __doc__, add_arguments, lambda args: run(args, now=datetime.now(UTC)), argv
    )
