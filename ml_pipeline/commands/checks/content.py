"""What is wrong with a store's content; each check a small function."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_pipeline.commands.checks.findings import Finding, fault, fine, some, warning
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import ArtifactIncompatible, PipelineError
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import (
    LookbackWindow,
    ModelVersion,
    RequestStatus,
    RunStatus,
    day_start,
)

if TYPE_CHECKING:
    import pandas as pd

RUNS_SEEN: Final = 100
LATE_PASSES: Final = 2
TOO_LATE_PASSES: Final = 7
NIGHTS: Final = 30
SAMPLE_ROWS: Final = 1000
WAITING_DAYS: Final = 1
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LABEL_FAULTS: Final = ("unknown prediction label", "unknown outcome label")
_NO_FEATURES: Final = "unusable: "


@dataclass(frozen=True, kw_only=True, slots=True)
class Patient:
    """What is examined, and when."""

    store: Store
    settings: Settings
    now: datetime

    @property
    def model_name(self) -> str:
        """Whose store it is."""
        return self.settings.model_name

    def champion(self) -> ModelVersion | None:
        """The model that serves."""
        return self.store.champion(model_name=self.model_name)


Check = Callable[[Patient], Iterator[Finding]]


def guarded(check: Check, patient: Patient) -> Iterator[Finding]:
    """The findings of a check; an error that it did not expect is a finding as well."""
    name = check.__name__
    try:
        yield from check(patient)
    except PipelineError as error:
        yield fault(name, error.message, error.hint or "Look at the message; then try again.")
    except Exception as error:  # noqa: BLE001 - one broken part must not hide the other findings
        what = f"The check itself failed: {type(error).__name__}: {error}"
        yield fault(name, what, "Look at the message; it may be a fault of the program.")


def champion(patient: Patient) -> Iterator[Finding]:
    """Whether a champion serves, by a row that can be read and libraries that can load it."""
    from ml_pipeline.registry import archive

    model = patient.champion()
    if model is None:
        needed = patient.settings.training.min_training_samples
        what = f"No model serves {patient.model_name} yet, so nothing can be predicted."
        do = (
            f"The first run with {needed} labelled rows makes one, or `ml-pipeline train "
            "--register`."
        )
        yield warning("champion", what, do)
        return
    yield fine("champion", f"{model.model_id} serves, registered {_day(model.created_at)}.")
    try:
        archive.check_library_versions(model.library_versions)
    except ArtifactIncompatible as error:
        yield fault("champion_versions", error.message, error.hint)
    else:
        yield fine("champion_versions", "The champion was made by these library versions.")


def champion_artifact(patient: Patient) -> Iterator[Finding]:
    """Whether the champion's bytes are there, are the registered ones, and load."""
    from ml_pipeline.registry import archive, models

    name = "champion_artifact"
    model = patient.champion()
    if model is None:
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = models.fetch_model(patient.store, model, Path(folder))
            try:
                archive.check_library_versions(model.library_versions)
            except ArtifactIncompatible:
                yield fine(name, "The champion's bytes are the registered ones.")
                return
            archive.load_model(path, expected_digest=model.artifact.digest)
    except PipelineError as error:
        do = "Make an earlier model serve: `ml-pipeline models rollback --reason …`."
        yield fault(name, f"The champion cannot be loaded: {error.message}", f"{error.hint} {do}")
        return
    yield fine(name, "The champion's bytes are the registered ones, and it loads.")


def last_success(patient: Patient) -> Iterator[Finding]:
    """Whether a run did its job lately."""
    name = "last_success"
    runs = patient.store.list_runs(model_name=patient.model_name, limit=RUNS_SEEN)
    done = [run.completed_at for run in runs if run.status is RunStatus.COMPLETED]
    latest = max((moment for moment in done if moment is not None), default=None)
    failed = next((run for run in runs if run.status is RunStatus.FAILED), None)
    why = "" if failed is None else f" The last failure: {failed.error_message}"
    do = f"See that the schedule still starts `ml-pipeline run`, and start one by hand.{why}"
    if latest is None:
        if failed is None:
            yield warning(name, "No run has been recorded yet.", do)
        else:
            yield fault(name, f"None of the last {len(runs)} runs did its job.", do)
        return
    age = patient.now - latest
    every = timedelta(hours=patient.settings.run.every_hours)
    what = f"The last run that did its job ended {_day(latest)}, {_span(age)} ago."
    if age > TOO_LATE_PASSES * every:
        yield fault(name, what, do)
    elif age > LATE_PASSES * every:
        yield warning(name, what, do)
    else:
        yield fine(name, what)


def running_run(patient: Patient) -> Iterator[Finding]:
    """Whether a run died without a word."""
    limit = timedelta(minutes=patient.settings.run.stale_after_minutes)
    runs = patient.store.list_runs(model_name=patient.model_name, limit=RUNS_SEEN)
    running = [run for run in runs if run.status is RunStatus.RUNNING]
    for run in running:
        silent = patient.now - run.heartbeat_at
        if silent > limit:
            what = f"Run {run.run_id} is running, but has given no sign for {_span(silent)}."
            do = (
                "It died (killed job, memory, time limit?). The next `ml-pipeline run` closes it "
                "and takes up what it left."
            )
            yield fault("running_run", what, do)
            return
    what = f"Run {running[0].run_id} is at work." if running else "No run is stuck."
    yield fine("running_run", what)


def requests(patient: Patient) -> Iterator[Finding]:
    """Whether somebody waits for a run in vain."""
    waiting = patient.store.list_requests(
        model_name=patient.model_name, status=RequestStatus.PENDING
    )
    oldest = min((request.created_at for request in waiting), default=patient.now)
    what = f"{len(waiting)} requests wait"
    if patient.now - oldest > timedelta(days=WAITING_DAYS):
        what = f"{what}, the oldest for {_span(patient.now - oldest)}."
        yield warning("requests", what, "Start `ml-pipeline run`: it serves them all.")
    else:
        yield fine("requests", f"{what}.")


# -------------------------------------------------------------------------- evaluation log


def evaluation_log(patient: Patient) -> Iterator[Finding]:
    """Whether the log holds rows that can be learned, read as a run reads them."""
    from ml_pipeline.evaluation_log import loading, rules
    from ml_pipeline.registry.serving_state import serving_models

    run = patient.settings.run
    start = _sample_start(patient)
    if start is None:
        yield _no_rows(patient)
        return
    request = rules.LogRequest(
        now=patient.now,
        window=LookbackWindow.ending(patient.now, days=NIGHTS + run.lookback_days),
        learn_from=start,
        model_ids=serving_models(patient.store, patient.settings.model_name),
    )
    # Bad rows are counted here, and judged below beside everything else.
    lenient = patient.settings.changed({"log.max_bad_rows": 1.0})
    logging.getLogger("data_loader").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        try:
            loaded = loading.load_log(patient.store, lenient, request, Path(folder))
        except PipelineError as error:
            yield fault("log_rows", error.message, error.hint or "Check log.source.")
            return
        errors = loaded.errors
    yield _rows(patient, loaded.report)
    yield _labels(patient, loaded.report)
    yield _features(loaded.report)
    yield _trigger(patient, errors)


def _sample_start(patient: Patient) -> datetime | None:
    """From where the last rows of the table are looked at; None when there are none lately.

    A file is read whole in any case.
    """
    lately = patient.now - timedelta(days=NIGHTS)
    if patient.settings.log.source != "table":
        return _FIRST
    window = LookbackWindow(start=lately, end=patient.now)
    days = patient.store.count_labelled(window, model_name=patient.model_name)
    seen = 0
    for day in sorted(days, reverse=True):
        seen += days[day]
        if seen >= SAMPLE_ROWS:
            return day_start(day)
    return day_start(min(days)) if days else None


def _no_rows(patient: Patient) -> Finding:
    ever = LookbackWindow(start=_FIRST, end=patient.now + timedelta(days=1))
    pages = patient.store.read_events(ever, model_name=patient.model_name, labelled_only=False)
    first = next(iter(pages), None)
    if first is None or first.empty:
        what = f"The evaluation log holds no events of {patient.model_name}."
        do = "Predict with `ml-pipeline predict`, or write rows into evaluation_log."
        return warning("log_rows", what, do)
    what = f"No outcome of {patient.model_name} became known in the last {NIGHTS} days."
    do = "Record outcomes (`ml-pipeline outcome`): without them there is nothing to learn."
    return warning("log_rows", what, do)


def _rows(patient: Patient, report: object) -> Finding:
    rows, bad = _number(report, "rows"), _number(report, "bad")
    if rows == 0:
        return warning("log_rows", "The evaluation log is empty.", "Write predictions into it.")
    allowed = patient.settings.log.max_bad_rows
    reasons = some(f"{reason} ({n})" for reason, n in _reasons(report).items())
    if bad / rows > allowed:
        what = f"{bad} of {rows} rows are bad, a run would refuse the log: {reasons}."
        do = "Mend what writes them, or raise log.max_bad_rows; the rest is learned then."
        return fault("log_rows", what, do)
    if bad:
        what = f"{bad} of {rows} rows are bad and left out: {reasons}."
        return warning("log_rows", what, "Mend what writes them.")
    labelled, pending = _number(report, "labelled"), _number(report, "pending")
    return fine("log_rows", f"{rows} rows looked at: {labelled} labelled, {pending} pending.")


def _labels(patient: Patient, report: object) -> Finding:
    reasons = _reasons(report)
    unknown = {name: reasons[name] for name in _LABEL_FAULTS if name in reasons}
    if not unknown:
        return fine("log_labels", "Every label is a known one.")
    told = some(f"{count} rows: {name}" for name, count in unknown.items())
    what = f"The log has labels that data.classes and data.labels do not know ({told})."
    do = "Add the spelling to data.labels, or the class to data.classes."
    share = sum(unknown.values()) / max(1, _number(report, "rows"))
    judge = fault if share > patient.settings.log.max_bad_rows else warning
    return judge("log_labels", what, do)


def _features(report: object) -> Finding:
    labelled, unusable = _number(report, "labelled"), _number(report, "unusable")
    reasons = {k: n for k, n in _reasons(report).items() if k.startswith(_NO_FEATURES)}
    told = some(f"{name.removeprefix(_NO_FEATURES)} ({n})" for name, n in reasons.items())
    do = "Write the configured data.features as a JSON object into the column features."
    if labelled and unusable == labelled:
        what = f"None of {labelled} labelled rows can be learned: {told}."
        return fault("log_features", what, do)
    if unusable:
        what = f"{unusable} of {labelled} labelled rows cannot be learned: {told}."
        return warning("log_features", what, do)
    return fine("log_features", "Every labelled row has its features.")


def _number(report: object, name: str) -> int:
    return int(getattr(report, name))


def _reasons(report: object) -> Counter[str]:
    return Counter(getattr(report, "reasons"))  # noqa: B009


def _trigger(patient: Patient, errors: pd.DataFrame) -> Finding:
    """How often the errors would have been enough, had a run started each night at this time."""
    import pandas as pd

    run = patient.settings.run
    known = pd.to_datetime(errors["known_at"], utc=True, format="ISO8601")
    fired = 0
    for night in range(NIGHTS):
        end = patient.now - timedelta(days=night)
        inside = (known >= end - timedelta(days=run.lookback_days)) & (known < end)
        fired += int(inside.sum()) >= run.min_error_samples
    what = (
        f"On {fired} of the last {NIGHTS} nights there were {run.min_error_samples} errors over "
        f"{run.confidence_threshold:g} within {run.lookback_days:g} days ({len(errors)} errors in "
        f"all); run.trigger is {run.trigger}."
    )
    do = ""
    if fired == 0 and run.trigger == "errors":
        do = "As it is set it never trains: set `run.trigger: labels` to learn without errors."
    return fine("error_trigger", what, do)


# ----------------------------------------------------------------------------------- words


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _span(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"  # noqa: PLR2004


QUICK: Final[tuple[Check, ...]] = (champion,)
FULL: Final[tuple[Check, ...]] = (
    champion,
    champion_artifact,
    last_success,
    running_run,
    requests,
    evaluation_log,
)
