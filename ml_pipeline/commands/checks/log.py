"""What is wrong with the evaluation log: its rows, labels and features, and how often it triggers.

It is read as a run reads it.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_pipeline.commands.checks.examined import Examined
from ml_pipeline.commands.checks.findings import Finding, fault, fine, some, warning
from ml_pipeline.errors import PipelineError
from ml_pipeline.store.records import LookbackWindow, day_start

if TYPE_CHECKING:
    import pandas as pd

    from ml_pipeline.evaluation.label_sample import LabelSample
    from ml_pipeline.evaluation_log.known.report import LoadReport
    from ml_pipeline.store.alerts import LabelDelays

DAYS: Final = 30
SAMPLE_ROWS: Final = 1000
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LABEL_FAULTS: Final = ("unknown prediction label", "unknown outcome label")
_NO_FEATURES: Final = "unusable: "


def evaluation_log(examined: Examined) -> Iterator[Finding]:
    """Whether the log holds rows that can be learned."""
    from ml_pipeline.evaluation_log import loading, rules
    from ml_pipeline.reports.label_delays import delays
    from ml_pipeline.reports.labels_given import label_samples
    from ml_pipeline.runs.incumbent.answering import counted_ids

    run = examined.settings.run
    start = _sample_start(examined)
    if start is None:
        yield _no_rows(examined)
        return
    with tempfile.TemporaryDirectory() as folder:
        counting = counted_ids(
            examined.store, examined.settings, now=examined.now, work_dir=Path(folder)
        )
    request = rules.LogRequest(
        now=examined.now,
        window=LookbackWindow.ending(examined.now, days=DAYS + run.lookback_days),
        learn_from=start,
        model_ids=counting,
    )
    # Bad rows are counted here, and judged below beside everything else.
    lenient = examined.settings.changed({"log.max_bad_rows": 1.0})
    logging.getLogger("data_loader").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        try:
            loaded = loading.load_log(examined.store, lenient, request, Path(folder))
        except PipelineError as error:
            yield fault("log_rows", error.message, error.hint or "Check log.source.")
            return
        errors = loaded.errors
        levels = list(_new_levels(examined, loaded.labelled_path))
        samples = label_samples(examined.store, examined.settings, loaded, now=examined.now)
        late = delays(examined.store, examined.settings, loaded.labelled_path, now=examined.now)
    yield _rows(examined, loaded.report)
    yield _sample(samples)
    yield _delay(late)
    yield _labels(examined, loaded.report)
    yield _features(examined, loaded.report)
    yield from levels
    yield _trigger(examined, errors)


def _sample_start(examined: Examined) -> datetime | None:
    """Where the sample of the table's last rows begins; None when there are none lately.

    A file is read whole in any case.
    """
    lately = examined.now - timedelta(days=DAYS)
    if examined.settings.log.source != "table":
        return _FIRST
    window = LookbackWindow(start=lately, end=examined.now)
    days = examined.store.count_labelled(window, model_name=examined.model_name)
    seen = 0
    for day in sorted(days, reverse=True):
        seen += days[day]
        if seen >= SAMPLE_ROWS:
            return day_start(day)
    return day_start(min(days)) if days else None


def _no_rows(examined: Examined) -> Finding:
    ever = LookbackWindow(start=_FIRST, end=examined.now + timedelta(days=1))
    pages = examined.store.read_events(ever, model_name=examined.model_name, labelled_only=False)
    first = next(iter(pages), None)
    if first is None or first.empty:
        what = f"The evaluation log has no events of {examined.model_name}."
        do = "Predict with `ml-pipeline predict`, or write predictions into evaluation_log."
        return warning("log_rows", what, do)
    what = f"No outcome of {examined.model_name} became known in the last {DAYS} days."
    do = "Record outcomes with `ml-pipeline outcome`: without them there is nothing to learn."
    return warning("log_rows", what, do)


def _rows(examined: Examined, report: LoadReport) -> Finding:
    from ml_pipeline.evaluation_log.loading import reasons_hint

    rows, bad = report.rows, report.bad
    if rows == 0:
        return warning("log_rows", "The evaluation log is empty.", "Write predictions into it.")
    allowed = examined.settings.log.max_bad_rows
    hint = reasons_hint(report.reasons, examined.settings)
    reasons = some(f"{reason} ({n})" for reason, n in report.reasons.items())
    if bad / rows > allowed:
        what = (
            f"{bad} of {rows} rows are bad, more than the {allowed:.2%} that log.max_bad_rows "
            f"allows, so a run would refuse the log: {reasons}."
        )
        do = "Correct what writes them, or raise log.max_bad_rows: then the good rows are learned."
        return fault("log_rows", what, do + hint)
    if bad:
        what = f"{bad} of {rows} rows are bad and left out: {reasons}."
        return warning("log_rows", what, f"Correct what writes them.{hint}")
    return fine(
        "log_rows",
        f"{rows} rows checked: {report.labelled} have an outcome, {report.pending} are pending.",
    )


def _sample(samples: list[LabelSample]) -> Finding:
    """Whether right and wrong answers get labels alike, as far as anybody can tell."""
    from ml_pipeline.reports.labels_given import refusal_of

    whole = samples[0]
    what = " ".join(filter(None, (whole.sentence(), whole.shares(), whole.shares_by_confidence())))
    refusal = refusal_of(samples)
    if refusal is not None:
        do = "Until then a run promotes nothing unasked."
        return warning("log_sample", f"{refusal[0].upper()}{refusal[1:]}", do)
    if whole.is_biased:
        what += " Wrong answers seem to get labels more often than right ones."
        return warning("log_sample", what, whole.suggestion())
    return fine("log_sample", what)


def _delay(found: LabelDelays) -> Finding:
    """How long outcomes take, and what that forbids."""
    from ml_pipeline.reports.label_delays import consequence, is_late, sentence

    if not is_late(found):
        return fine("log_delay", sentence(found))
    do = (
        "Record outcomes as soon as they are known; where they come no sooner, do not count on the "
        "loop, or on `decay`, for changes that are quicker."
    )
    return warning("log_delay", f"{sentence(found)} {consequence(found)}", do)


def _labels(examined: Examined, report: LoadReport) -> Finding:
    unknown = {name: report.reasons[name] for name in _LABEL_FAULTS if name in report.reasons}
    if not unknown:
        return fine("log_labels", "Every label is a known one.")
    counts = some(f"{count} rows: {name}" for name, count in unknown.items())
    what = f"The log has labels that neither data.classes nor data.labels knows ({counts})."
    do = "Add the spelling to data.labels, or the class to data.classes."
    share = sum(unknown.values()) / max(1, report.rows)
    judge = fault if share > examined.settings.log.max_bad_rows else warning
    return judge("log_labels", what, do)


def _features(examined: Examined, report: LoadReport) -> Finding:
    labelled, unusable = report.labelled, report.unusable
    reasons = {k: n for k, n in report.reasons.items() if k.startswith(_NO_FEATURES)}
    counts = some(f"{name.removeprefix(_NO_FEATURES)} ({n})" for name, n in reasons.items())
    do = "Write the configured data.features as a JSON object into the column features."
    if labelled and unusable == labelled:
        what = f"None of the {labelled} labelled rows can be learned: {counts}."
        return fault("log_features", what, do)
    if unusable:
        what = f"{unusable} of {labelled} labelled rows cannot be learned: {counts}."
        try:
            report.require_usable(examined.settings)
        except PipelineError:
            allowed = examined.settings.log.max_bad_rows
            what = f"{what[:-1]}, more than the {allowed:.2%} that log.max_bad_rows allows a run."
            return fault("log_features", what, do)
        return warning("log_features", what, do)
    return fine("log_features", "Every labelled row has its features.")


def _new_levels(examined: Examined, path: Path) -> Iterator[Finding]:
    """Whether categories have levels that the champion's base was not trained on.

    Of one with too many levels to list nobody can tell.
    """
    from ml_pipeline.datasets.levels.new_levels import known_levels
    from ml_pipeline.registry.inputs.new_levels import base_reference, new_levels

    known = known_levels(base_reference(examined.store, examined.champion()))
    if not known:
        return
    found = [each.sentence("result") for each in new_levels(known, path) if each.is_noted]
    if found:
        do = "If a level is a slip or another spelling, correct what logs it."
        yield warning("log_levels", " ".join(found), do)
    else:
        yield fine("log_levels", f"Training knew the levels of {some(known)}, or nearly all.")


def _trigger(examined: Examined, errors: pd.DataFrame) -> Finding:
    """How often the errors would have been enough, had a run started each day at this time."""
    import pandas as pd

    run = examined.settings.run
    known = pd.to_datetime(errors["known_at"], utc=True, format="ISO8601")
    triggered = 0
    for days_ago in range(DAYS):
        end = examined.now - timedelta(days=days_ago)
        inside = (known >= end - timedelta(days=run.lookback_days)) & (known < end)
        triggered += int(inside.sum()) >= run.min_error_samples
    what = (
        f"On {triggered} of the last {DAYS} days a run would have found the "
        f"{run.min_error_samples} errors that it needs: wrong with confidence over "
        f"{run.confidence_threshold:g}, from {run.lookback_days:g} days ({len(errors)} errors in "
        f"all). run.trigger is {run.trigger}."
    )
    do = ""
    if triggered == 0 and run.trigger == "errors":
        do = "So it never trains: set `run.trigger: labels` to learn from every labelled row."
    return fine("error_trigger", what, do)
