"""One life: days of an app, and of runs that meet trouble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from ml_pipeline.errors import RunInProgress, StoreUnavailable, TrainingError
from ml_pipeline.registry.trained import TrainerAnswer
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order, RunOutcome, Trained
from ml_pipeline.training.trainer import Trainer, TrainingJob
from tests.support.in_process import train_here
from tests.support.league import FIRST_MODEL, event_id
from tests.support.lives import checks, people
from tests.support.lives.app import App
from tests.support.lives.door import Door, Fault, Killed, Trouble, behind
from tests.support.lives.ledger import Head, Ledger
from tests.support.lives.nature import Nature, invent
from tests.support.lives.place import Site, enthrone

BIRTH = datetime(2026, 3, 1, tzinfo=UTC)
CALLS = 60  # of the store, in a run that trains
Kill = Callable[[Path, int, datetime, Fault, int], None]


@dataclass(kw_only=True, slots=True)
class Clock:
    """A clock that goes on by a second whenever somebody looks at it."""

    now: datetime

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@dataclass(kw_only=True, slots=True)
class Life:
    """What lives: build it with `born`, then let it `live`."""

    seed: int
    site: Site
    nature: Nature
    ledger: Ledger
    chance: Random
    app: App
    clock: Clock
    new_id: Callable[[], str]
    kill: Kill | None = None
    history: list[str] = field(default_factory=list)
    heads: dict[str, Head] = field(default_factory=dict)  # by the id of the model

    @classmethod
    def born(cls, seed: int, site: Site, kill: Kill | None = None) -> Life:
        """A life that its seed decides on; `kill` runs it in a process that is really killed."""
        chance, name = Random(seed), f"life-{seed}"
        nature = invent(chance, name)
        count = iter(range(1_000_000))
        ledger = Ledger()
        ledger.learned[FIRST_MODEL] = frozenset()

        def new_id() -> str:
            return event_id(f"{seed}/{next(count)}")

        history = [f"{nature.settings.training.adaptive.min_night_rows} rows make a night"]
        app = App(
            site=site, nature=nature, ledger=ledger, chance=chance, new_id=new_id, history=history
        )
        if nature.has_model:
            enthrone(site.store, nature, now=BIRTH - timedelta(days=1), event_id=new_id())
        return cls(
            seed=seed, site=site, nature=nature, ledger=ledger, chance=chance, app=app,
            clock=Clock(now=BIRTH), new_id=new_id, history=history, kill=kill,
        )  # fmt: skip

    @property
    def champion(self) -> str | None:
        """The id of the model that serves."""
        version = self.site.store.champion(model_name=self.nature.settings.model_name)
        return None if version is None else version.model_id

    def live(self) -> None:
        """Live for some days, then check what is left."""
        days = self.chance.randint(3, 10)
        nights = set(self.chance.sample(range(1, days), min(days - 1, self.chance.randint(1, 2))))
        for day in range(days):
            hours = sorted(self.chance.uniform(3, 23.9) for _ in range(self.chance.randint(0, 2)))
            for hour in hours:
                self._at(day, hour)
                if self.chance.random() < 0.6:
                    self.app.session(self.clock.now, self.champion)
                else:
                    self.app.import_rows(self.clock.now, self.champion)
            if self.chance.random() < 0.08:
                self.app.erase(self.clock.now)
            if self.chance.random() < 0.12:
                people.decide(self)
                checks.after_decision(self)
            if self.chance.random() < 0.1:
                people.ask(self)
            if day in nights:
                self._at(day, self.chance.choice((23.95, 24.5, 26)))
                self.run(self._trouble())
        self._at(days + 2, 2)
        self.app.session(self.clock.now, self.champion, calm=True)
        self._at(days + 4, 2)
        outcome = self.run(None)
        if isinstance(outcome, Trained) and not checks.has_heads(self):
            # What was held out to judge a first model on is learned by the next run.
            self._at(days + 5, 2)
            self.run(None)
        people.approve_what_waits(self)
        checks.after_decision(self)
        if self.ledger.is_corrected:
            # Without what was erased the next run learns again, or lets the base serve.
            self._at(days + 6, 2)
            self.run(None)
        checks.at_the_end(self)

    def _at(self, day: float, hour: float) -> None:
        self.clock.now = max(self.clock.now, BIRTH + timedelta(days=day, hours=hour))

    def _trouble(self) -> Trouble | None:
        if self.chance.random() < 0.6:
            return None
        return Trouble(fault=self.chance.choice(list(Fault)), at=self.chance.randint(1, CALLS))

    # -- a run

    def run(self, trouble: Trouble | None) -> RunOutcome | None:
        """Run the loop once; what it came to, or None when it was killed or not even begun."""
        before = checks.Before.of(self)
        if self.kill and trouble and trouble.fault in {Fault.KILLED_BEFORE, Fault.KILLED_AFTER}:
            self.kill(self.site.folder, self.seed, self.clock(), trouble.fault, trouble.at)
            self._after_trouble(before, f"{trouble}: killed by a signal")
            return None
        taken_over = trouble is not None and trouble.fault is Fault.TAKEN_OVER
        door = Door(self.site.store, trouble, self._other_run if taken_over else self._meanwhile)
        order = self._order(trouble)
        self.history.append(f"{self.clock.now:%d %H:%M} run, {trouble}")
        try:
            outcome = recording.run(behind(door), order)
        except Killed:
            self._after_trouble(before, "killed")
            return None
        except StoreUnavailable:
            assert door.met, "a run was not recorded though the store answered"
            self._after_trouble(before, "not recorded")
            return None
        except RunInProgress:
            assert before.is_running, "a run was refused though none is running"
            checks.nothing_changed(before, self)
            return None
        self.history.append(f"  {door.met}: {outcome.run.outcome} {outcome.run.outcome_reason}")
        is_certain = door.met is None and (trouble is None or trouble.fault is not
                                            Fault.TRAINER_KILLED) and before.is_certain  # fmt: skip
        if taken_over and door.met:
            checks.after_other_run(before, self, outcome)
        else:
            checks.after_run(before, self, outcome, door.failed)
        if is_certain and self.nature.has_model:
            checks.as_expected(before, self, outcome)
        else:
            self._look_up_head(outcome)
        return outcome

    def _after_trouble(self, before: checks.Before, what: str) -> None:
        self.history.append(f"  {what}")
        checks.somebody_serves(self)
        checks.note_what_was_learned(before, self)
        # What was corrected may still wait for a run that learns it again.
        self.ledger.head = checks.head_in_registry(self)

    def _look_up_head(self, outcome: RunOutcome) -> None:
        self.ledger.head = checks.head_in_registry(self)
        # A correction waits until a run has learned it again: one that failed or skipped has not,
        # and one that is on its way comes before a later run.
        is_learned = self.ledger.is_delivered and isinstance(outcome, Trained)
        self.ledger.is_corrected = self.ledger.is_corrected and not is_learned

    def _order(self, trouble: Trouble | None) -> Order:
        return Order(
            settings=self.nature.settings,
            work_dir=self.site.folder / "work",
            place="a machine",
            clock=self.clock,
            new_id=self.new_id,
            train=_trainer(trouble),
        )

    def _other_run(self) -> None:
        """Another machine takes the run over while this one sleeps."""
        self.clock.now += timedelta(hours=2)
        # The one that sleeps may have come as far as to register what it learned.
        self.ledger.head = checks.head_in_registry(self)
        self.run(None)

    def _meanwhile(self) -> None:
        self.app.import_rows(self.clock.now, FIRST_MODEL)


def _trainer(trouble: Trouble | None) -> Trainer:
    if trouble is None or trouble.fault is not Fault.TRAINER_KILLED:
        return train_here

    def killed(job: TrainingJob, *, heartbeat: Callable[[], None]) -> TrainerAnswer:
        heartbeat()
        del job
        raise TrainingError("The trainer was killed by signal 9 (out of memory?).")

    return killed
