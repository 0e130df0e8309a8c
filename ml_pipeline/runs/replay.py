"""A run built again from its manifest: identical, or what differs first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import pydantic

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.labelled_file import read_labelled
from ml_pipeline.errors import ConfigError, NotFound
from ml_pipeline.evaluation import judging
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation_log.loading import LoadedLog, load_known, load_log
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.registry import archive, models
from ml_pipeline.registry.model_inputs import inputs_of
from ml_pipeline.registry.trained import TrainerAnswer
from ml_pipeline.runs.manifest import changed_environment, days_of
from ml_pipeline.store.contract import EVERYTHING, Store
from ml_pipeline.store.records import RUN_MANIFEST, LookbackWindow, ModelVersion, RetrainingRun
from ml_pipeline.training.trainer import ModelFile, TrainingJob, run_trainer

WITHIN: Final = 1e-12
COMPARED_ROWS: Final = 10_000


class Differs(Exception):
    """The first thing that is not as it was; not a fault, so no PipelineError."""

    def __init__(self, where: str, sentence: str) -> None:
        super().__init__(sentence)
        self.where = where
        self.sentence = sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """A run to build again, in a folder of its own."""

    store: Store
    run: RetrainingRun
    settings: Settings
    folder: Path

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the run kept of itself."""
        found: Mapping[str, Any] = self.run.details[RUN_MANIFEST]
        return found

    @property
    def _reading(self) -> Settings:
        """How the log is read: how much of it is bad was for the run to judge.

        A result of a class that only a base to come knows is bad to the model's own settings.
        """
        return self.settings.changed({"log.max_bad_rows": 1.0})

    def compare(self) -> dict[str, Any]:
        """Compare parents, rows, evidence and probabilities, in this order. Raises Differs."""
        head, champion = self._parent("head"), self._parent("champion")
        loaded = self._rows(head, champion)
        answer = self._train(loaded, self._known(head), head, champion)
        self._same("training rows", self.run.training_digest, answer.result["training_digest"])
        evidence = Evidence.load(answer.evidence_path)
        self._same("evidence", self.run.holdout_digest, judging.digest_of(evidence))
        return self._probabilities(loaded, answer)

    def _same(self, where: str, then: str | None, now: str) -> None:
        if then != now:
            raise Differs(where, f"The digest of the {where} was {then} and is {now}.")

    def _parent(self, role: str) -> ModelFile | None:
        named = self.manifest[role]
        if named is None:
            return None
        version = self.store.get_model(self.run.model_name, named["model_id"])
        what = f"parent model {version.model_id}"
        self._same(what, named["digest"], version.artifact.digest)
        path = models.fetch_to_train(self.store, version, self.folder)
        return ModelFile(version=version, path=path)

    def _rows(self, head: ModelFile | None, champion: ModelFile | None) -> LoadedLog:
        since = self.manifest["learn_from"]
        now = self.run.started_at
        request = LogRequest(
            now=now,
            window=LookbackWindow.ending(now, days=self.settings.run.lookback_days),
            learn_from=None if since is None else datetime.fromisoformat(since),
            model_ids=None if champion is None else self._lineage_then(champion.version),
            anchor_id=None if head is None else head.version.anchor_id,
            classes=None if head is None else head.version.lineage.classes,
            read_at=datetime.now(UTC),
            of_incumbent=head is None and self.settings.training.is_incumbent,
            keeps_files=False,
        )
        loaded = load_log(self.store, self._reading, request, self.folder)
        self._same_days("training rows", self.manifest["days"], loaded.labelled_path)
        return loaded

    def _known(self, head: ModelFile | None) -> Path | None:
        """The rows that experts were fitted on, if any were."""
        then = self.manifest.get("known")
        if then is None:
            return None
        folder = self.folder / "known"
        model = None if head is None else head.version
        since = date.fromisoformat(min(then)) if then else None
        now = self.run.started_at
        known = load_known(
            self.store,
            self._reading,
            model,
            folder,
            now=now,
            since=since,
            read_at=datetime.now(UTC),
            keeps_files=False,
        )
        self._same_days("rows for experts", then, known.labelled_path)
        return known.labelled_path

    def _same_days(self, where: str, then: Mapping[str, Any], rows_path: Path) -> None:
        found = days_of(rows_path, self.settings)
        for day in sorted({*then, *found}):
            (rows, digest), (rows_now, digest_now) = (
                days.get(day, (0, "")) for days in (then, found)
            )
            if rows != rows_now:
                raise Differs(where, f"{day} had {rows} rows and has {rows_now}.")
            if digest != digest_now:
                raise Differs(where, f"The {rows} rows of {day} are not the same rows.")

    def _lineage_then(self, champion: ModelVersion) -> tuple[str, ...]:
        """Whose errors counted: the models of the lineage that were there when the run started."""
        members = self.store.list_models(
            model_name=champion.model_name, anchor_id=champion.anchor_id, limit=EVERYTHING
        )
        there = (m.model_id for m in members if m.created_at <= self.run.started_at)
        return tuple(sorted({champion.model_id, *there}))

    def _train(
        self,
        loaded: LoadedLog,
        known: Path | None,
        head: ModelFile | None,
        champion: ModelFile | None,
    ) -> TrainerAnswer:
        job = TrainingJob(
            dataset=loaded.labelled_path,
            folder=self.folder,
            model_id=str(self.run.challenger_id),
            settings=self.settings,
            today=self.run.started_at.astimezone(UTC).date().isoformat(),
            parent=head,
            champion=champion,
            known=known,
            restart_night=self.manifest.get("restart_night"),
        )
        return run_trainer(job, heartbeat=lambda: None)

    def _probabilities(self, loaded: LoadedLog, answer: TrainerAnswer) -> dict[str, Any]:
        import numpy as np

        version = self.store.get_model(self.run.model_name, str(self.run.challenger_id))
        inputs = inputs_of(self.store, version)
        settings = self.settings if inputs is None else inputs.reading(self.settings)
        data = read_labelled(str(loaded.labelled_path), settings, whole=False)
        features = data.features[-COMPARED_ROWS:]
        event_ids = data.frame["event_id"].to_list()[-COMPARED_ROWS:]
        then = models.load_model_version(self.store, version).predict_proba(features)
        digest = answer.result["model_digest"]
        rebuilt: Any = archive.load_model(answer.model_path, expected_digest=digest)
        now = rebuilt.predict_proba(features)
        if then.shape != now.shape:
            raise Differs("probabilities", f"Their shape was {then.shape} and is {now.shape}.")
        apart = np.abs(then - now).max(axis=1)
        if (apart > WITHIN).any():
            first = int(np.argmax(apart > WITHIN))
            raise Differs(
                "probabilities",
                f"Those of event {event_ids[first]} are {apart[first]:.3g} apart, the "
                f"largest difference of {len(features)} rows is {apart.max():.3g}.",
            )
        return {"rows_compared": len(features), "largest_difference": float(apart.max(initial=0.0))}


def replay(store: Store, run: RetrainingRun, folder: Path) -> dict[str, Any]:
    """Build the run's challenger again; return what `replay` prints.

    Raises NotFound when the run trained nothing, ConfigError when its settings are not known
    here any more.
    """
    kept = run.details.get(RUN_MANIFEST, {})
    if run.challenger_id is None or "days" not in kept:
        raise NotFound(
            f"Run {run.run_id} has no challenger to build again: {run.outcome_reason}",
            hint="Choose a run that trained one; `challenger` names it in the run's row.",
        )
    try:
        # Through JSON: the store may hand out 7 for 7.0.
        settings = Settings.model_validate_json(json.dumps(kept["config"]))
    except pydantic.ValidationError as error:
        raise ConfigError(
            f"The settings of run {run.run_id} are not known to this version: {error}.",
            hint=f"Use version {kept['code']['version']}.",
        ) from error
    result = {
        "status": "completed",
        "run_id": run.run_id,
        "challenger": run.challenger_id,
        "result": "identical",
        "first_difference": None,
        "environment": changed_environment(kept, settings),
    }
    try:
        return result | Replay(store=store, run=run, settings=settings, folder=folder).compare()
    except Differs as found:
        first = {"where": found.where, "sentence": found.sentence}
        return result | {"result": "differs", "first_difference": first}
