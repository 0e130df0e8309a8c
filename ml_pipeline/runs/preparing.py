"""The rows that a run has to learn, and the model from which it goes on."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.levels.new_levels import NewLevels, known_levels
from ml_pipeline.errors import ConfigError
from ml_pipeline.evaluation.sentences import counted
from ml_pipeline.evaluation_log.answering.logged_models import LoggedModels
from ml_pipeline.evaluation_log.answering.sentences import proposal
from ml_pipeline.evaluation_log.loading import LoadedLog, load_log
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.registry.inputs.new_levels import base_reference, new_levels
from ml_pipeline.registry.model_inputs import TRAIN, ModelInputs, inputs_of
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.registry.serving_state import ServingState
from ml_pipeline.runs.incumbent.answering import counted_ids, details_of, logged_in
from ml_pipeline.runs.late_rows.counting import (
    day_after,
    has_late_rows,
    is_whole,
    new_changes,
    restart_night,
)
from ml_pipeline.store.contract import Store
from ml_pipeline.store.lineage.open_rows import OpenRows
from ml_pipeline.store.records import LookbackWindow, ModelVersion, day_start
from ml_pipeline.training.heads.rates import changed_rates

log = logging.getLogger("auto_reinforcement")

LABELS: Final = "data.labels"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What a run works on: rows that were read by `settings`, for a model `trained_by` others.

    Both differ from the run's where the serving model reads or knows other things than the
    settings name; `difference` says which. `is_readable` says that only rows lack what a new base
    reads that came before it was logged. `counted_ids` are the models whose errors count; None
    is everybody's. `logged` are those who answered the rows.

    `counted_from` is the first day of which the log's labelled rows were counted. `is_rebuilt`
    says that the lineage is learned again from its approved base on: rows of settled days turned
    up or changed, or the settings `changed` by which heads learn. `is_corrected` says that rows
    which it had learned changed, of whatever day. After `restart_night` alone it is when that is
    before the late rows.
    """

    serving: ServingState
    settings: Settings
    counted_ids: tuple[str, ...] | None
    loaded: LoadedLog
    counted_from: date | None = None
    is_rebuilt: bool = False
    changed: tuple[str, ...] = ()
    is_corrected: bool = False
    restart_night: int | None = None
    difference: str = ""
    is_readable: bool = False
    trained_by: Settings | None = None
    new_levels: tuple[NewLevels, ...] = ()
    logged: LoggedModels = field(default_factory=LoggedModels)

    def waiting_for_a_base(self) -> str:
        """Which results wait for a base that knows more, and how to get one; empty for none."""
        report = self.loaded.report
        waiting = report.unusable if self.difference else report.of_new_classes
        difference = self.difference or ("does not know all classes" if waiting else "")
        if not difference:
            return ""
        rows = "results are learned by what it knows until then"
        if waiting:
            verb = "waits" if waiting == 1 else "wait"
            rows = f"{counted(waiting, 'result')} {verb} for one ({report.unusable_words()})"
        return f" The serving model {difference}: {rows}. A base that fits: {TRAIN}."

    def what_waits(self) -> str:
        """Which results are not learned and why, as further sentences of a reason."""
        unnamed = self.loaded.report.of_no_class()
        return f"{self.waiting_for_a_base()}{f' {unnamed}' if unnamed else ''}"

    def fresh_rows(self) -> int:
        """Labelled rows that have not been learned yet, or not as they are now."""
        head = self.serving.head
        learned = OpenRows.of(())
        if head is not None and not self.is_corrected:
            learned = head.lineage.learned_open_rows
        return self.loaded.fresh_rows(learned)

    @property
    def learn_from(self) -> datetime | None:
        """The first moment of the days to learn."""
        return day_after(self.restart_night or self.serving.settled_night)

    def details(self) -> dict[str, Any]:
        """What the run's row says of the rows."""
        rebuilt: dict[str, Any] = {"rebuilt": True} if self.is_rebuilt else {}
        if self.restart_night is not None:
            rebuilt["learned_again_since"] = str(date.fromordinal(self.restart_night + 1))
        if self.changed:
            rebuilt["rebuilt_for"] = list(self.changed)
        levels = [found.as_json("new result") for found in self.new_levels]
        return {
            **({"new_levels": levels} if levels else {}),
            "load_report": self.loaded.report.as_json(),
            "dataset_path": str(self.loaded.errors_path),
            "training_path": str(self.loaded.labelled_path),
            **rebuilt,
            **details_of(self.settings, self.logged),
        }

    def proposed(self) -> str:
        """That others answered whom the settings do not name, and how to; else nothing.

        Nor where there is too little yet for a model that could take their place.
        """
        least = self.settings.training.min_training_samples
        if self.serving.head is None and self.loaded.labelled_rows < least:
            return ""
        sentence = proposal(self.settings, self.logged.theirs, self.logged.rows)
        # Where theirs are corrected, they are known.
        is_known = sentence is None or self.settings.training.is_incumbent
        return "" if is_known else f" {sentence}"


def prepare(
    store: Store, settings: Settings, serving: ServingState, folder: Path, *, now: datetime
) -> Prepared:
    """Load the evaluation log; from the approved base on when it is to be learned again."""
    counting = counted_ids(store, settings, now=now, work_dir=folder)
    head, own, trained_by, difference = serving.head, settings, settings, ""
    inputs = inputs_of(store, head)
    if inputs is not None:
        settings = own = trained_by = inputs.reading(settings)
        head, difference = _knowing(head, inputs), inputs.difference(settings.data)
    if inputs is not None and difference:
        log.warning("The serving model %s: it goes on by what it knows", difference)
        own, trained_by = inputs.to_read_by(settings), inputs.to_train_by(settings)
    rows = unlearned_rows(store, own, head, folder, now=now, model_ids=counting)
    return Prepared(
        serving=replace(serving, head=_knowing(rows.head, inputs)),
        settings=own,
        difference=difference,
        trained_by=trained_by,
        counted_ids=counting,
        loaded=rows.loaded,
        counted_from=rows.counted_from,
        is_rebuilt=rows.is_rebuilt,
        changed=rows.changed,
        is_corrected=rows.is_corrected,
        restart_night=rows.restart_night,
        is_readable=rows.readable_since is not None,
        new_levels=_new_levels(store, inputs, rows),
        logged=logged_in(store, own, serving, rows.loaded.labelled_path),
    )


def _new_levels(
    store: Store, inputs: ModelInputs | None, rows: UnlearnedRows
) -> tuple[NewLevels, ...]:
    """The levels among the rows that the base was not trained on; said where they are found."""
    if inputs is None or Kind.CATEGORY not in inputs.kinds.values():
        return ()
    known = known_levels(base_reference(store, rows.head))
    found = new_levels(known, rows.loaded.labelled_path)
    for each in found:
        log.warning("%s", each.sentence("new result"))
    return tuple(found)


def _knowing(head: ModelVersion | None, inputs: ModelInputs | None) -> ModelVersion | None:
    """The head with its classes in its row, where an earlier version did not write them there."""
    if head is None or inputs is None:
        return head
    return replace(head, lineage=replace(head.lineage, classes=inputs.classes))


@dataclass(frozen=True, kw_only=True, slots=True)
class UnlearnedRows:
    """The rows that a lineage has to learn, and the `head` from which it goes on with them.

    The head is the lineage's base when it `is_rebuilt`, for late rows or for settings `changed`.
    When the late rows are of days after `restart_night`, it goes on from its state of that night.
    """

    head: ModelVersion | None
    loaded: LoadedLog
    counted_from: date
    is_rebuilt: bool
    changed: tuple[str, ...] = ()
    is_corrected: bool = False
    restart_night: int | None = None
    readable_since: date | None = None


def unlearned_rows(  # noqa: PLR0913 - a lineage, its log and whose errors count
    store: Store,
    settings: Settings,
    head: ModelVersion | None,
    folder: Path,
    *,
    now: datetime,
    model_ids: tuple[str, ...] | None,
) -> UnlearnedRows:
    """Load what `head` has not learned; everything after its base when it has to learn again.

    It has to when late rows are in the log, and when settings of its heads were changed. Raises
    ConfigError for changed settings when the log has forgotten what would have to be learned.
    """
    count_from = _count_from(store, head)
    request = _request(head, settings, count_from, now=now, model_ids=model_ids)
    loaded = load_log(store, settings, request, folder)
    counted_from, by_day = count_from.date(), loaded.labelled_by_day
    changed: tuple[str, ...] = ()
    is_late = is_corrected = is_forgetful = False
    if head is not None:
        changes = loaded.changes_by_day
        is_forgetful = not is_whole(head.lineage, by_day, changes)
        is_late = has_late_rows(head.lineage, by_day, counted_from, changes)
        is_corrected = any(new_changes(head.lineage, changes, counted_from))
        if is_corrected and not loaded.labelled_rows:
            # Of the open days nothing is left to take the place of what was learned of them.
            is_late = is_late or not is_forgetful
        changed = changed_settings(store, head, settings)
        if changed and is_forgetful:
            changed = _must_not_have_changed(changed, head)
    restart = None
    if head is not None and is_late and not changed and (is_forgetful or not is_corrected):
        restart = restart_night(head.lineage, by_day, counted_from, is_forgetful=is_forgetful)
    if restart is not None:
        since = date.fromordinal(restart + 1)
        log.warning("Rows of learned days have arrived: learning again since %s", since)
        again = replace(request, learn_from=day_after(restart))
        loaded = load_log(store, settings, again, folder)
    elif head is not None and (is_late or changed):
        why = "Results of learned days have arrived or were changed"
        why = f"{', '.join(changed)} changed" if changed else why
        log.warning("%s: learning again from the base %s", why, head.anchor_id)
        head = store.get_model(settings.model_name, head.anchor_id)
        again = replace(request, learn_from=_learn_from(head))
        loaded = load_log(store, settings, again, folder)
    readable_since = _first_readable(head, loaded, settings)
    if readable_since is not None:
        log.warning("Results from before %s lack what the base reads", readable_since)
    return UnlearnedRows(
        head=head,
        loaded=loaded,
        counted_from=counted_from,
        is_rebuilt=restart is None and (is_late or bool(changed)),
        changed=changed,
        is_corrected=is_corrected,
        restart_night=restart,
        readable_since=readable_since,
    )


def _request(
    head: ModelVersion | None,
    settings: Settings,
    count_from: datetime,
    *,
    now: datetime,
    model_ids: tuple[str, ...] | None,
) -> LogRequest:
    return LogRequest(
        now=now,
        window=LookbackWindow.ending(now, days=settings.run.lookback_days),
        learn_from=_learn_from(head),
        model_ids=model_ids,
        # What a classifier that nobody here trained has answered is not the lineage's.
        anchor_id=None if head is None or settings.incumbent.serves else head.anchor_id,
        count_from=count_from,
        classes=None if head is None else head.lineage.classes,
        of_incumbent=head is None and settings.training.is_incumbent,
    )


def _first_readable(
    head: ModelVersion | None, loaded: LoadedLog, settings: Settings
) -> date | None:
    """From which day on the log holds what a base reads that was trained outside a run.

    The first one from which on few enough rows are faulty; None when the whole log is so, or when
    there is no such day, and what logs the rows is to be corrected.
    """
    is_base = head is not None and head.lineage.first_night is None and head.run_id is None
    if not is_base or loaded.report.is_usable(settings):
        return None
    since = _learn_from(head)
    with loaded.labelled_path.open(encoding="utf-8", newline="") as file:
        readable = Counter(date.fromisoformat(row["known_at"][:10]) for row in csv.DictReader(file))
    days = [day for day in loaded.labelled_by_day if since is None or day >= since.date()]
    found, rows, faulty = None, 0, 0
    for day in sorted(days, reverse=True):
        rows += loaded.labelled_by_day[day]
        faulty += loaded.labelled_by_day[day] - readable[day]
        if faulty <= settings.log.max_bad_rows * rows:
            found = day
    return found


def changed_settings(store: Store, head: ModelVersion, settings: Settings) -> tuple[str, ...]:
    """Settings by which `head` did not learn, by their names; none before its first day."""
    if settings.training.strategy != "adaptive" or head.lineage.first_night is None:
        return ()
    kept = head.lineage.rates
    if kept is None:  # an earlier version registered it
        kept = load_model_version(store, head).rates or {}
    changed = changed_rates(kept, settings.training)
    return (*changed, LABELS) if _is_respelt(head.lineage.labels, settings) else changed


def _is_respelt(kept: Mapping[str, str] | None, settings: Settings) -> bool:
    """Whether a spelling was named or means another class since: its results were set aside.

    One that is no longer named takes back nothing that was learned.
    """
    wanted = settings.data.labels or {}
    return kept is not None and any(kept.get(text) != name for text, name in wanted.items())


def _must_not_have_changed(changed: tuple[str, ...], head: ModelVersion) -> tuple[str, ...]:
    """Nothing to learn again for, where the log has forgotten what would have to be learned.

    Raises ConfigError for settings of the heads; new spellings count for new results.
    """
    if changed == (LABELS,):
        log.warning("The log no longer goes back to the first day: %s counts from now on", LABELS)
        return ()
    first = date.fromordinal(head.lineage.first_night or 1)
    raise ConfigError(
        f"{', '.join(changed)}: changed since {head.model_id} was trained. It would have to learn "
        f"again everything since {first}, and the log does not go back so far any more.",
        hint="Set it back, or train a new base: `ml-pipeline train --register`.",
    )


def _learn_from(head: ModelVersion | None) -> datetime | None:
    return None if head is None else day_after(head.lineage.settled_night)


def _count_from(store: Store, head: ModelVersion | None) -> datetime:
    """From when on labelled rows are counted by day: late ones show by the count.

    From the first day that the lineage could learn of, before which only its base knows rows: the
    late rows may be the first ones of their day.
    """
    if head is not None and head.lineage.counted_from is not None:
        return day_start(date.fromordinal(head.lineage.counted_from))
    base = head
    if head is not None and head.lineage.first_night is not None:
        base = store.get_model(head.model_name, head.anchor_id)
    settled = None if base is None else base.lineage.settled_night
    return day_after(settled) or day_start(date(1970, 1, 1))
