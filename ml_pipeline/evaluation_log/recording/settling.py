"""Which events an outcome is the outcome of: new, known already, a correction, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ml_pipeline.evaluation_log.recording.parsed import OutcomeReport, ParsedOutcome, moment_of
from ml_pipeline.store.event_row import EventRow, utc_text, with_outcome
from ml_pipeline.store.inputs import corrections
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.inputs.predictions import not_of

_INSTANT = timedelta(microseconds=1)
CORRECT_HINT = (
    "If the recorded outcome is wrong, repeat the command with --correct: it is replaced, and kept "
    "in the event's metadata."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """Outcomes may replace what stands; that is kept, with who replaced it when."""

    now: datetime
    by: str


@dataclass(kw_only=True, slots=True)
class Work:
    """What is to be written: events with their outcomes, and the lines that these come from.

    `clashing` has the outcomes of events to which lines of one file give several.
    """

    labels: Labels
    report: OutcomeReport
    correction: Correction | None
    fresh: dict[str, EventRow] = field(default_factory=dict)
    lines: dict[str, ParsedOutcome] = field(default_factory=dict)
    clashing: dict[str, list[ParsedOutcome]] = field(default_factory=dict)

    def take(self, row: EventRow, outcome: ParsedOutcome, actual: str, moment: datetime) -> None:
        """Let the event have that outcome."""
        event_id, is_right = str(row["event_id"]), self.labels.agree(row["prediction"], actual)
        self.lines[event_id] = outcome
        if row["actual_result"] is None or self.correction is None:
            self.fresh[event_id] = with_outcome(row, actual, moment, is_right=is_right)
            return
        now, by = self.correction.now, self.correction.by
        known = moment if outcome.is_dated else corrections.kept_time(row, now)
        self.fresh[event_id] = corrections.corrected(
            row, actual, known, is_right=is_right, now=now, by=by
        )

    def clash(self, row: EventRow, outcome: ParsedOutcome) -> None:
        """Note that another line gave the event another outcome."""
        event_id = str(row["event_id"])
        self.clashing.setdefault(event_id, [self.lines[event_id]]).append(outcome)


def settle(work: Work, rows: Sequence[EventRow], outcome: ParsedOutcome) -> None:
    """Give the outcome to the rows that it is the outcome of, and note what became of it."""
    report, labels = work.report, work.labels
    actual = labels.find(outcome.actual)
    if actual is None:
        for row in rows:
            reason = f"{outcome.actual!r} is no label."
            refusal = refusal_of(row, "a label of data.classes", outcome.actual, reason)
            report.refused.append({**refusal, "hint": labels.hint()})
        return
    due = [(row, moment) for row in rows if (moment := outcome.known_for(row)) is not None]
    if not due:
        for row in rows:
            reason = (
                f"The prediction was made at {row['timestamp']}, after this outcome was known "
                f"({utc_text(outcome.known_at)}): it is not its outcome."
            )
            report.refused.append(refusal_of(row, None, actual, reason))
    mine, others = list[EventRow](), list[tuple[EventRow, datetime]]()
    for row, moment in due:
        latest = work.fresh.get(str(row["event_id"]), row)
        recorded = latest["actual_result"]
        if recorded is None:
            work.take(row, outcome, actual, moment)
        elif labels.find(recorded) != actual:
            others.append((latest, moment))
            continue
        elif latest is row and work.correction is not None and _moves(row, outcome):
            work.take(row, outcome, actual, moment)
        else:
            report.already_known += 1
        mine.append(latest)
    _contradict(work, mine, others, outcome, actual)


def _moves(row: EventRow, outcome: ParsedOutcome) -> bool:
    """Whether the outcome names another time than the one that stands."""
    settled = moment_of(row["evaluated_at"])
    is_same = settled is not None and (
        outcome.known_at <= settled < outcome.known_at + max(outcome.span, _INSTANT)
    )
    return outcome.is_dated and not is_same


def _contradict(
    work: Work,
    mine: Sequence[EventRow],
    others: Sequence[tuple[EventRow, datetime]],
    outcome: ParsedOutcome,
    actual: str,
) -> None:
    """Correct the others, which have another outcome, or refuse it for them.

    Not where it is that of a prediction made since: somebody who is predicted again and again has
    an outcome each time, and an earlier prediction keeps its own.
    """
    latest = max((moment for row in mine if (moment := moment_of(row["timestamp"]))), default=None)
    meant = list[tuple[EventRow, datetime]]()
    for row, moment in others:
        settled = moment_of(row["evaluated_at"])
        if latest is None or settled is None or latest <= settled:
            meant.append((row, moment))
    settled_ones = [
        (row, moment) for row, moment in meant if str(row["event_id"]) not in work.fresh
    ]
    chosen = settled_ones if work.correction is None else _chosen(settled_ones, outcome)
    for row, moment in meant:
        stands = str(row["actual_result"])
        if str(row["event_id"]) in work.fresh:
            work.clash(row, outcome)
        elif work.correction is None:
            refusal = refusal_of(row, stands, actual, f"The outcome {stands} stands.")
            work.report.refused.append({**refusal, "hint": CORRECT_HINT})
        elif (row, moment) in chosen:
            work.take(row, outcome, actual, moment)
        elif not chosen:
            reason = (
                f"{outcome.value} was predicted again after an outcome, and has several: which of "
                "them is wrong?"
            )
            hint = "Correct each by --event-id, or give evaluated_at as it was recorded."
            work.report.refused.append({**refusal_of(row, stands, actual, reason), "hint": hint})


def _chosen(
    settled_ones: Sequence[tuple[EventRow, datetime]], outcome: ParsedOutcome
) -> Sequence[tuple[EventRow, datetime]]:
    """Which of a match's outcomes are corrected: all of one occasion, or those of its time."""
    made = [moment for row, _ in settled_ones if (moment := moment_of(row["timestamp"]))]
    known = [moment for row, _ in settled_ones if (moment := moment_of(row["evaluated_at"]))]
    if not made or not known or max(made) <= min(known):
        return settled_ones
    if not outcome.is_dated:
        return []
    return [(row, moment) for row, moment in settled_ones if not _moves(row, outcome)]


def clash_of(row: EventRow, outcomes: Sequence[ParsedOutcome]) -> dict[str, str | None]:
    """Two or more lines of a file that say different things of one event."""
    stands = None if row["actual_result"] is None else str(row["actual_result"])
    lines = " and ".join(str(outcome.line) for outcome in outcomes if outcome.line is not None)
    labels = " and ".join(outcome.actual for outcome in outcomes)
    where = f"Lines {lines} contradict" if lines else "The outcomes contradict"
    reason = f"{where} each other: {labels}. None of them was recorded for this event."
    hint = "Take the wrong line out and repeat: what was recorded already stays as it is."
    return {**refusal_of(row, stands, labels, reason), "hint": hint}


def refusal_of_another(row: EventRow, refused: str, model_name: str) -> dict[str, str | None]:
    """An outcome of a prediction that another model of the same log made."""
    stands = None if row["actual_result"] is None else str(row["actual_result"])
    error = not_of(row, model_name)
    return {**refusal_of(row, stands, refused, error.message), "hint": error.hint}


def refusal_of(
    row: EventRow, recorded: str | None, refused: str, reason: str
) -> dict[str, str | None]:
    """An outcome that was not recorded for the event of that row, and why."""
    match_id = None if row["match_id"] is None else str(row["match_id"])
    return {
        "event_id": str(row["event_id"]),
        "match_id": match_id,
        "stands": recorded,
        "given": refused,
        "reason": reason,
    }
