"""The app of a life: it predicts, learns what happened, and imports rows of other machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, cast

from ml_pipeline.errors import RunInProgress
from ml_pipeline.evaluation_log.opening import MLLogger
from ml_pipeline.evaluation_log.outcomes import record
from ml_pipeline.evaluation_log.recording.parsed import OutcomeReport, ParsedOutcome
from ml_pipeline.evaluation_log.recording.settling import Correction
from ml_pipeline.runs.erasing.erasing import Erasure, erase
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.records import EVENT_COLUMNS, RunStatus
from ml_pipeline.store.serving_view import ServingView
from tests.support.factories import frame_of
from tests.support.lives.door import Door, Fault, Killed, Trouble
from tests.support.lives.ledger import Entry, Ledger
from tests.support.lives.nature import Nature
from tests.support.lives.place import Site

STRANGE = "perhaps"
TROUBLES = (Fault.AWAY_FOR_GOOD, Fault.ANSWER_LOST, Fault.KILLED_BEFORE, Fault.KILLED_AFTER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Telling:
    """An outcome to tell; `known` is None for a correction that leaves the time as it is."""

    entry: Entry
    label: str
    known: datetime | None
    corrects: bool = False


@dataclass(kw_only=True, slots=True)
class App:
    """What writes the evaluation log, and enters into the ledger what the log took."""

    site: Site
    nature: Nature
    ledger: Ledger
    chance: Random
    new_id: Callable[[], str]
    history: list[str]
    number: int = 0
    unsure: list[Entry] = field(default_factory=list)
    untold: list[Telling] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)

    # -- what is logged

    def invented(self, now: datetime, champion: str | None) -> Entry:
        """A new prediction, which may be of somebody who was predicted before."""
        chance = self.chance
        self.number += 1
        matches = sorted({e.match_id for e in self.ledger.entries.values() if e.match_id})
        repeated = matches and chance.random() < 0.2
        features, flaw = self.features()
        return Entry(
            event_id=self.new_id(),
            match_id=chance.choice(matches) if repeated else f"thing-{self.number}",
            model_id=chance.choice((champion, champion, champion, "stranger")),
            prediction=chance.choice((*self.nature.classes, *self.nature.classes, "UNCERTAIN")),
            confidence=round(chance.uniform(0.2, 1), 3),
            features=features,
            made=now,
            flaw=flaw,
        )

    def features(self) -> tuple[str | None, str | None]:
        """Features as JSON, and why they cannot be learned."""
        chance, names = self.chance, self.nature.features
        values: dict[str, object] = {name: round(chance.gauss(0, 1), 4) for name in names}
        if chance.random() < 0.1:
            values[chance.choice(names)] = None
        if chance.random() > 0.15:
            return json.dumps(values), None
        name, first = chance.choice(names), names[0]
        odd: list[tuple[object, str]] = [
            (None, "no features"),
            ({n: v for n, v in values.items() if n != name}, f"feature {name} is absent"),
            (values | {name: 1e200}, f"feature {name} is beyond 1e+150"),
            (values | {name: "tall"}, f"feature {name} is not a number"),
            (dict.fromkeys(names), "all features are missing"),
            ([first], "features are not a JSON object"),
        ]
        found, flaw = chance.choice(odd)
        return None if found is None else json.dumps(found), flaw

    def label(self) -> str:
        """What happened; with open classes it may be something that no model knows."""
        if self.nature.is_open and self.chance.random() < 0.1:
            return STRANGE
        return self.chance.choice(self.nature.classes)

    def settle(self, entry: Entry, label: str, known: datetime) -> None:
        """Enter an outcome into the ledger."""
        entry.outcome, entry.known = label, known
        entry.is_foreign = label not in self.nature.classes

    # -- other machines

    def import_rows(self, now: datetime, champion: str | None) -> None:
        """Rows of another machine with their outcomes, some of them late."""
        entries = []
        for _ in range(self.chance.randint(1, 5)):
            ago = self.chance.choice((0.1, 0.2, 0.5, 0.5, 1, 2, 3, 4))
            known = now - timedelta(days=ago, seconds=self.chance.randint(0, 3600))
            entry = self.invented(known - timedelta(hours=1), champion)
            entries.append(entry)
            if self.chance.random() < 0.85:
                self.settle(entry, self.label(), known)
            if not self.nature.is_open and self.chance.random() < 0.05 and entry.outcome:
                entry.outcome, entry.is_bad = STRANGE, True
        self.append(entries)
        if self.chance.random() < 0.2:
            self.append(self.chance.sample(entries, 1))
        self.history.append(f"{now:%d %H:%M} imported {len(entries)}")

    def append(self, entries: Sequence[Entry]) -> None:
        """Append whole events to the table."""
        frame = frame_of([self._row(entry) for entry in entries])
        self.site.store.append_events(frame)
        for entry in entries:
            self.ledger.entries[entry.event_id] = entry

    def _row(self, entry: Entry) -> dict[str, Any]:
        return dict.fromkeys(EVENT_COLUMNS) | {
            "event_id": entry.event_id,
            "timestamp": entry.made,
            "event_type": "prediction",
            "model_name": self.nature.settings.model_name,
            "model_id": entry.model_id,
            "match_id": entry.match_id,
            "prediction": entry.prediction,
            "confidence": entry.confidence,
            "features": entry.features,
            "actual_result": entry.outcome,
            "evaluated_at": entry.known,
        }

    def erase(self, now: datetime) -> None:
        """Erase an event or somebody's, unless a run is at work."""
        told = {telling.entry.event_id for telling in self.untold}
        known = [e for e in self.ledger.entries.values() if e.event_id not in told]
        if not known or self.unsure:
            return
        chosen = self.chance.choice(known)
        by_match = chosen.match_id is not None and self.chance.random() < 0.5
        if any(telling.entry.match_id == chosen.match_id for telling in self.untold):
            return
        gone = [e for e in known if e is chosen or (by_match and e.match_id == chosen.match_id)]
        asked = Erasure(
            event_ids=frozenset(() if by_match else (chosen.event_id,)),
            match_ids=frozenset((str(chosen.match_id),) if by_match else ()),
            work_dir=self.site.folder / "work",
        )
        self.history.append(f"{now:%d %H:%M} erases {[e.event_id[:8] for e in gone]}")
        door = Door(self.site.open_view(), None)
        logger = self._logger(door, lambda: now)
        try:
            erase(self.site.store, logger, self.nature.settings, asked)
        except RunInProgress:
            latest = self.site.store.latest_run(model_name=self.nature.settings.model_name)
            assert latest is not None, "refused for a run that nobody began"
            assert latest.status is RunStatus.RUNNING, "refused for a run that has ended"
            return
        finally:
            logger.close()
            door.close()
        self.ledger.correct()
        for entry in gone:
            del self.ledger.entries[entry.event_id]
            self.erased.append(entry.event_id)

    # -- its own logger

    def session(self, now: datetime, champion: str | None, *, calm: bool = False) -> None:
        """One process of the app: predictions and outcomes, until it ends or is killed."""
        trouble = None
        if not calm and self.chance.random() < 0.2:
            trouble = Trouble(fault=self.chance.choice(TROUBLES), at=self.chance.randint(1, 5))
        door = Door(self.site.open_view(), trouble)
        logger = self._logger(door, lambda: now)
        try:
            self._repeat(logger, now)
            for _ in range(self.chance.randint(0, 0 if calm else 4)):
                self._log(logger, self.invented(now, champion))
            if calm or self.chance.random() < 0.8:
                self._tell(logger, now)
            if logger.settle() == 0 and not logger.away:
                self._delivered()
        except Killed:
            self.history.append(f"{now:%d %H:%M} the app was killed at {door.met}")
        finally:
            logger.close()
            door.close()
        self.history.append(f"{now:%d %H:%M} session, {trouble}")

    def _logger(self, door: Door, clock: Callable[[], datetime]) -> MLLogger:
        settings = self.nature.settings
        logger = MLLogger(
            str(self.site.folder / f"{settings.model_name}.csv"),
            model_name=settings.model_name,
            open_table=lambda: cast("ServingView", door),
            labels=lambda: Labels.of(settings.data),
            clock=clock,
        )
        logger.open_store = lambda: self.site.store
        return logger

    def _log(self, logger: MLLogger, entry: Entry) -> None:
        """Log a prediction; one whose call did not return is logged again by the next session."""
        values = json.loads(entry.features) if entry.features else None
        if isinstance(values, list):
            values, entry.features, entry.flaw = None, None, "no features"
        self.unsure.append(entry)
        entry.is_delivered = False
        logger.log_prediction(
            entry.model_id or "",
            entry.match_id,
            entry.prediction,
            entry.confidence,
            features=values,
            event_id=entry.event_id,
            timestamp=entry.made,
        )
        self.unsure.remove(entry)
        self.ledger.entries[entry.event_id] = entry

    def _repeat(self, logger: MLLogger, now: datetime) -> None:
        for entry in list(self.unsure):
            self.unsure.remove(entry)
            self._log(logger, entry)
        for telling in list(self.untold):
            self.untold.remove(telling)
            self._record(logger, telling, now, again=True)

    def _tell(self, logger: MLLogger, now: datetime) -> None:
        """Tell some outcomes, and correct one or tell it twice."""
        entries = [e for e in self.ledger.entries.values() if e.made <= now]
        for entry in [e for e in entries if e.outcome is None]:
            if self.chance.random() < 0.6:
                known = self._known(entry, now)
                self._record(logger, Telling(entry=entry, label=self.label(), known=known), now)
        told = [e for e in entries if e.outcome is not None and not e.is_bad]
        if told and self.chance.random() < 0.2:
            self._repeat_one(logger, self.chance.choice(told), now)
        if told and self.chance.random() < 0.3:
            entry = self.chance.choice(told)
            moved = self._known(entry, now) if self.chance.random() < 0.5 else None
            correction = Telling(entry=entry, label=self.label(), known=moved, corrects=True)
            self._record(logger, correction, now)

    def _known(self, entry: Entry, now: datetime) -> datetime:
        """Now, or some days ago."""
        if self.chance.random() < 0.75:
            return now
        return max(entry.made, now - timedelta(days=self.chance.choice((0.3, 1, 2))))

    def _repeat_one(self, logger: MLLogger, entry: Entry, now: datetime) -> None:
        """Tell an outcome that is known: the same is fine, another one is refused."""
        assert entry.outcome is not None
        label = self.label()
        report = self._told(logger, Telling(entry=entry, label=label, known=now), now)
        assert report.recorded == 0, "an outcome was recorded twice"
        assert report.already_known == (label == entry.outcome)
        assert len(report.refused) == (label != entry.outcome), report

    def _record(
        self, logger: MLLogger, telling: Telling, now: datetime, *, again: bool = False
    ) -> None:
        """Record an outcome; one whose call did not return is told again by the next session."""
        entry = telling.entry
        self.untold.append(telling)
        was_delivered, entry.is_delivered = entry.is_delivered, False
        if telling.corrects:
            self.ledger.correct()
        report = self._told(logger, telling, now)
        self.untold.remove(telling)
        entry.is_delivered = was_delivered and not logger.away
        assert not report.refused, report
        assert not report.unknown, report
        assert report.recorded + report.corrected + report.already_known == 1, report
        assert telling.corrects or not report.corrected, "an outcome was replaced unasked"
        if not telling.corrects:
            assert report.recorded or again, "an outcome was known before it was told"
        known = telling.known or entry.known
        assert known is not None
        self.settle(entry, telling.label, known)

    def _told(self, logger: MLLogger, telling: Telling, now: datetime) -> OutcomeReport:
        outcome = ParsedOutcome(
            key="event_id",
            value=telling.entry.event_id,
            actual=telling.label,
            known_at=telling.known or now,
            is_dated=telling.known is not None,
        )
        correction = Correction(now=now, by="somebody") if telling.corrects else None
        store, settings = self.site.store, self.nature.settings
        return record(logger, store, [outcome], settings, correction=correction)

    def _delivered(self) -> None:
        for entry in self.ledger.entries.values():
            entry.is_delivered = True
