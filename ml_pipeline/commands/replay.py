"""Build a run's challenger again from its capsule: identical, or differs, and where first."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pydantic

from ml_pipeline import artifacts, capsule, commands, config, judging, model_registry, training
from ml_pipeline.config import Settings
from ml_pipeline.data_loader import LoadedLog, LogRequest, load_known, load_log
from ml_pipeline.domain import LookbackWindow, ModelVersion, RetrainingRun
from ml_pipeline.errors import ConfigError, NotFound
from ml_pipeline.evidence import Evidence
from ml_pipeline.store import Store
from ml_pipeline.trainer import ModelFile, TrainerAnswer, TrainingJob, run_trainer

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
    def sealed(self) -> Mapping[str, Any]:
        """The run's capsule."""
        found: Mapping[str, Any] = self.run.details["capsule"]
        return found

    def compare(self) -> dict[str, Any]:
        """Compare parents, rows, evidence and probabilities, in this order. Raises Differs."""
        head, champion = self._parent("head"), self._parent("champion")
        loaded = self._rows(champion)
        answer = self._train(loaded, self._known(), head, champion)
        self._same("training rows", self.run.training_digest, answer.result["training_digest"])
        evidence = Evidence.load(answer.evidence_path)
        self._same("evidence", self.run.holdout_digest, judging.digest_of(evidence))
        return self._probabilities(loaded, answer)

    def _same(self, where: str, then: str | None, now: str) -> None:
        if then != now:
            raise Differs(where, f"The digest of the {where} was {then} and is {now}.")

    def _parent(self, role: str) -> ModelFile | None:
        named = self.sealed[role]
        if named is None:
            return None
        version = self.store.get_model(self.run.model_name, named["model_id"])
        what = f"parent model {version.model_id}"
        self._same(what, named["digest"], version.artifact.digest)
        path = model_registry.fetch_model(self.store, version, self.folder)
        return ModelFile(version=version, path=path)

    def _rows(self, champion: ModelFile | None) -> LoadedLog:
        since = self.sealed["learn_from"]
        now = self.run.started_at
        request = LogRequest(
            now=now,
            window=LookbackWindow.ending(now, days=self.settings.run.lookback_days),
            learn_from=None if since is None else datetime.fromisoformat(since),
            model_ids=None if champion is None else self._line_then(champion.version),
        )
        loaded = load_log(self.store, self.settings, request, self.folder)
        self._same_days("training rows", self.sealed["days"], loaded.labelled_path)
        return loaded

    def _known(self) -> Path | None:
        """The rows that experts were fitted on, if any were."""
        then = self.sealed.get("known")
        if then is None:
            return None
        folder = self.folder / "known"
        path = load_known(self.store, self.settings, folder, now=self.run.started_at)
        self._same_days("rows for experts", then, path)
        return path

    def _same_days(self, where: str, then: Mapping[str, Any], rows_path: Path) -> None:
        found = capsule.days_of(rows_path, self.settings)
        for day in sorted({*then, *found}):
            (rows, digest), (rows_now, digest_now) = (
                days.get(day, (0, "")) for days in (then, found)
            )
            if rows != rows_now:
                raise Differs(where, f"{day} had {rows} rows and has {rows_now}.")
            if digest != digest_now:
                raise Differs(where, f"The {rows} rows of {day} are not the same rows.")

    def _line_then(self, champion: ModelVersion) -> tuple[str, ...]:
        """Whose errors counted: the models of the line that were there when the run started."""
        line = self.store.list_models(model_name=champion.model_name, anchor_id=champion.anchor_id)
        there = (m.model_id for m in line if m.created_at <= self.run.started_at)
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
            head=head,
            champion=champion,
            known=known,
        )
        return run_trainer(job, heartbeat=lambda: None)

    def _probabilities(self, loaded: LoadedLog, answer: TrainerAnswer) -> dict[str, Any]:
        import numpy as np

        data = training.read_rows(str(loaded.labelled_path), self.settings)
        features = data.features[-COMPARED_ROWS:]
        event_ids = data.frame["event_id"].to_list()[-COMPARED_ROWS:]
        version = self.store.get_model(self.run.model_name, str(self.run.challenger_id))
        then = model_registry.load_model_version(self.store, version).predict_proba(features)
        digest = answer.result["model_digest"]
        rebuilt: Any = artifacts.load_model(answer.model_path, expected_digest=digest)
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
    sealed = run.details.get("capsule", {})
    if run.challenger_id is None or "days" not in sealed:
        raise NotFound(
            f"Run {run.run_id} has no challenger to build again: {run.outcome_reason}",
            hint="Choose a run that trained one; `challenger` names it in the run's row.",
        )
    try:
        # Through JSON: the store may hand out 7 for 7.0.
        settings = Settings.model_validate_json(json.dumps(sealed["config"]))
    except pydantic.ValidationError as error:
        raise ConfigError(
            f"The settings of run {run.run_id} are not known to this version: {error}.",
            hint=f"Use version {sealed['code']['version']}.",
        ) from error
    told = {
        "status": "completed",
        "run_id": run.run_id,
        "challenger": run.challenger_id,
        "result": "identical",
        "first_difference": None,
        "environment": changed_environment(sealed, settings),
    }
    try:
        return told | Replay(store=store, run=run, settings=settings, folder=folder).compare()
    except Differs as found:
        first = {"where": found.where, "sentence": found.sentence}
        return told | {"result": "differs", "first_difference": first}


def changed_environment(sealed: Mapping[str, Any], settings: Settings) -> dict[str, list[Any]]:
    """What is another here than it was for the run: [then, now] by name."""
    here = capsule.environment(settings)
    pairs = {
        f"{part}.{name}": [sealed[part].get(name), here[part].get(name)]
        for part in ("code", "library_versions")
        for name in sorted({*sealed[part], *here[part]})
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


# ---------------------------------------------------------------------------------- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `replay`."""
    commands.add_common(parser)
    parser.add_argument("run_id", help="the run whose challenger is built again")


def run(args: argparse.Namespace) -> int:
    """Replay and print JSON; exit code 1 when something differs."""
    from ml_pipeline.wiring import open_store

    store = open_store(config.load_store_settings(args.local))
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = replay(store, store.get_run(args.run_id), Path(folder))
    finally:
        store.close()
    commands.print_json(result)
    return 0 if result["result"] == "identical" else 1


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return commands.main("replay", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
