"""Make the golden files anew: `python -m tests.support.make_golden`.

They freeze what the product writes, so that every later state of the code is held to reading it.
Make them anew only where they cannot be read by design, as with another minor version of
scikit-learn, and from a state of the code that passes with the old ones.

Everything goes through the product's own doors, with a clock that is set: a base is trained,
registered and promoted by the gate; the champion predicts and is logged; outcomes come on the same
evening; nightly runs learn from them. Projects live in `football` in the folder of temporary
files, because rows of runs name paths.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import numpy as np
import yaml

from ml_pipeline import PredictionEngine
from ml_pipeline.commands import decay, init, outcome, requests, train
from ml_pipeline.commands.usage import parsed
from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import load_settings
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order
from ml_pipeline.store import schema
from ml_pipeline.store.contract import Store
from ml_pipeline.store.opening import open_store
from ml_pipeline.store.records import RetrainingRun
from tests.support import golden, league
from tests.support.shell import environment
from tests.support.supabase import dump
from tests.support.supabase.project import open_project
from tests.support.warm import ml_pipeline

FIRST_DAY = date(2026, 3, 1)
TRAINED_AT = datetime(2026, 2, 10, 9, tzinfo=UTC)
PAST_MATCHES, MATCHES_A_DAY = 200, 30
PROMPTS = 150
EXPERTS: list[dict[str, Any]] = [
    {"algorithm": "DecisionTree", "half_life_days": 3},
    {"algorithm": "LogisticRegression"},
]
# Every base algorithm, with experts in the vote or without.
CLASSIFIERS: Mapping[str, list[dict[str, Any]]] = {
    "LogisticRegression": [],
    "SGDClassifier": [],
    "DecisionTree": EXPERTS,
    "RandomForest": [],
    "HistGradientBoosting": EXPERTS,
    "Ensemble": [],
}
SETTINGS: dict[str, Any] = {
    "model_name": "football",
    "data": {"training_dataset": "past.csv"},
    "run": {"trigger": "any"},
}
Rows = Sequence[Mapping[str, Any]]


class Command(Protocol):
    """A module that is a command: its flags, and its run with whatever clock it takes."""

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None:
        """Declare the flags."""

    @property
    def run(self) -> Callable[..., int]:
        """The command."""


def reported(command: Command, *arguments: str, **given: object) -> dict[str, Any]:
    """Run a command in this process, its clock among what is `given`; return its JSON."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with redirect_stdout(StringIO()) as answered:
        code = command.run(parsed(parser, arguments), **given)
    if code:
        raise RuntimeError(answered.getvalue())
    answer: dict[str, Any] = json.loads(answered.getvalue().splitlines()[-1])
    return answer


def at(day: date, hour: int) -> datetime:
    """An hour of a day, UTC."""
    return datetime.combine(day, time(hour), UTC)


# ------------------------------------------------------------------------------------- rows


def football(played: league.Matches) -> list[dict[str, float]]:
    """Features by name; short numbers."""
    rows = played.features.round(2).tolist()
    return [dict(zip(DEFAULT_FEATURES, row, strict=True)) for row in rows]


def past() -> Rows:
    """What a base is trained on."""
    played = league.play(1, PAST_MATCHES)
    first = TRAINED_AT.date() - timedelta(days=PAST_MATCHES)
    labelled = zip(football(played), played.labels.tolist(), strict=True)
    return [
        {"match_id": f"past-{number}", "match_date": first + timedelta(days=number), **row}
        | {"result": label}
        for number, (row, label) in enumerate(labelled)
    ]


def write_rows(name: str, rows: Rows) -> None:
    """Write a CSV in the working directory."""
    with Path(name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


# ---------------------------------------------------------------------------------- projects


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """A folder where somebody works; the environment names the store."""

    folder: Path
    name: str
    _count: Iterator[int] = field(default_factory=count)

    def new_id(self) -> str:
        """Another id; the same ones each time."""
        return league.event_id(f"{self.name} {next(self._count)}")

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """The store, closed in the end."""
        store = open_store(load_store_settings())
        try:
            yield store
        finally:
            store.close()

    def train(self, algorithm: str) -> None:
        """The first champion."""
        flags = ("--register", "--algorithm", algorithm)
        answer = reported(train, *flags, now=TRAINED_AT, new_id=self.new_id())
        if answer["outcome"] != "promoted":
            raise RuntimeError(answer["outcome_reason"])

    def serve(self, day: date, rows: Rows, actual: Sequence[str]) -> None:
        """Predict rows in the afternoon; what really happened is known in the evening."""
        named = [{"match_id": f"{day}-{number}", **row} for number, row in enumerate(rows)]
        with PredictionEngine(clock=lambda: at(day, 15)) as engine:
            answers = engine.batch_predict(named)
        results = [
            {"match_id": answer["match_id"], "actual_result": label}
            for answer, label in zip(answers, actual, strict=True)
        ]
        write_rows("results.csv", results)
        reported(outcome, "--csv", "results.csv", now=at(day, 22))

    def play(self, day: date, *, turned: bool) -> None:
        """A day of the league."""
        played = league.play(day.toordinal(), MATCHES_A_DAY, turned=turned)
        self.serve(day, football(played), played.labels.tolist())

    def run(self, now: datetime, expected: str, **changes: object) -> RetrainingRun:
        """A nightly run. Raises RuntimeError when it ends another way."""
        flags = {name.replace("__", "."): value for name, value in changes.items()}
        with self.opened() as store:
            finished = recording.run(
                store,
                Order(
                    settings=load_settings(flags=flags),
                    work_dir=self.folder / "work",
                    place="nightly, process 1",
                    clock=lambda: now,
                    new_id=self.new_id,
                ),
            ).run
        if finished.outcome != expected:
            why = finished.error_message or finished.outcome_reason
            raise RuntimeError(f"{expected} was expected at {now}: {why}")
        return finished

    def command(self, *arguments: str) -> dict[str, Any]:
        """What a command says today."""
        variables = {n: v for n, v in os.environ.items() if n.startswith(("ML_", "SUPABASE_"))}
        done = ml_pipeline(*arguments, cwd=self.folder, **variables)
        if done.code:
            raise RuntimeError(done.stderr)
        return done.json


@contextmanager
def empty_project(name: str, settings: Mapping[str, Any], **variables: str) -> Iterator[Project]:
    """An empty project as the working directory; it is gone afterwards."""
    folder = Path(tempfile.gettempdir()) / "football"
    folder.mkdir()
    try:
        clean = mock.patch.dict(os.environ, environment(**variables), clear=True)
        with chdir(folder), clean:
            if settings:
                Path(golden.CONFIG).write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
                write_rows("past.csv", past())
            yield Project(folder=folder, name=name)
    finally:
        shutil.rmtree(folder)


def live(lived: Project) -> None:
    """A month: decay is noticed, two passes learn, one skips; a model and a request wait."""
    days = [FIRST_DAY + timedelta(days=number) for number in range(6)]
    lived.train("LogisticRegression")
    for number in range(4):
        lived.play(FIRST_DAY - timedelta(days=10 - number), turned=False)
    for day in days[:3]:
        lived.play(day, turned=True)
    looked = reported(decay, clock=lambda: at(days[3], 1), new_id=lived.new_id)
    if not looked["decayed"]:
        raise RuntimeError(looked["sentence"])
    lived.run(at(days[3], 2), "promoted")
    lived.play(days[3], turned=True)
    promoted = lived.run(at(days[4], 2), "promoted")
    lived.run(at(days[4], 3), "skipped_no_new_data")
    lived.play(days[4], turned=True)
    lived.run(at(days[5], 2), "awaiting_approval", training__strategy="refit")
    reported(
        requests, "submit", "--reason", "the summer is over", "--priority", "high",
        now=at(days[5], 9), new_id=lived.new_id(),
    )  # fmt: skip
    rows = football(league.play(7, 4))
    with PredictionEngine(clock=lambda: at(days[5], 15)) as engine:
        answers = engine.batch_predict(rows)
    status = lived.command("status")
    content = {
        "promoted_run": promoted.run_id,
        "status": {name: status[name] for name in ("champion", "awaiting_approval", "latest_run")},
        "models": lived.command("models", "list")["models"],
        "requests": lived.command("requests", "list")["requests"],
        "rows": rows,
        "probabilities": [answer["probabilities"] for answer in answers],
    }
    golden.write_json(Path(golden.TOLD), content)


def make_embedded() -> None:
    """A project in an embedded store."""
    with empty_project("embedded", SETTINGS, ML_PIPELINE_LOCAL="store") as lived:
        live(lived)
        with closing(sqlite3.connect("store/store.db")) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        names = [golden.CONFIG, golden.TOLD, "past.csv", "store"]
        golden.pack(lived.folder, names, golden.EMBEDDED)


def make_supabase() -> None:
    """The same on Supabase."""
    # Without an embedded store the log stands beside the installed package.
    settings = SETTINGS | {"log": {"csv_file": "evaluation_log.csv"}}
    with open_project() as project:
        project.apply(schema.whole())
        variables = {"SUPABASE_URL": project.url, "SUPABASE_SERVICE_KEY": project.service_key}
        with empty_project("supabase", settings, **variables) as lived:
            live(lived)
            dump.dump(project, schema.whole(), lived.folder)
            names = [golden.CONFIG, golden.TOLD, "past.csv", "evaluation_log.csv"]
            names += [dump.SCHEMA, dump.ROWS, dump.OBJECTS]
            golden.pack(lived.folder, names, golden.SUPABASE)


# ------------------------------------------------------------------------------------ models


def make_classifiers(registry: Path) -> None:
    """A registry with every base algorithm under heads that have learned."""
    far_out = dict(zip(DEFAULT_FEATURES, (9.0, -9.0, 1e6, 0.1, -1e-9), strict=True))
    rows = [*football(league.play(7, 6)), dict.fromkeys(DEFAULT_FEATURES, 0.0), far_out]
    for algorithm, experts in CLASSIFIERS.items():
        changes = {
            "training": {"experts": experts, "ensemble": ["LogisticRegression", "DecisionTree"]},
            # So few rows teach a tree hardly anything.
            "promotion": {"min_skill": -1.0},
        }
        with empty_project(algorithm, SETTINGS | changes, ML_PIPELINE_LOCAL="store") as lived:
            lived.train(algorithm)
            for number in range(2):
                lived.play(FIRST_DAY + timedelta(days=number), turned=True)
            lived.run(at(FIRST_DAY + timedelta(days=2), 2), "promoted")
            export(lived, registry, rows)
    golden.pack(registry, sorted(path.name for path in registry.iterdir()), golden.CLASSIFIERS)


def make_router(registry: Path) -> None:
    """A registry with the model of the router's example."""
    with empty_project("router", {}, ML_PIPELINE_LOCAL="store") as lived:
        reported(init, "--example", "router", now=TRAINED_AT)
        with Path("router_prompts.csv").open(encoding="utf-8", newline="") as file:
            prompts = list(csv.DictReader(file))[:PROMPTS]
        write_rows("router_prompts.csv", prompts)
        lived.train("LogisticRegression")
        for number in range(2):
            asked = prompts[number::3]
            rows = [{"query": prompt["query"]} for prompt in asked]
            day = FIRST_DAY + timedelta(days=number)
            lived.serve(day, rows, [prompt["label"] for prompt in asked])
        lived.run(at(FIRST_DAY + timedelta(days=2), 2), "promoted")
        texts = [prompt["query"] for prompt in prompts[2 :: PROMPTS // 6]]
        texts += ['Why does "x"\nprint 👍, and not None?', "?"]
        export(lived, registry, [{"query": text} for text in texts])
    golden.pack(registry, sorted(path.name for path in registry.iterdir()), golden.ROUTER)


def export(lived: Project, registry: Path, rows: Rows) -> None:
    """Add the project's champion with its scoring file and its answers to a registry."""
    lived.command("models", "export", "--with_artifacts", "--output_dir", "exported")
    content = golden.read_json(Path("exported", golden.REGISTRY))
    champion = content["champion"]
    # Of each project only the champion is kept; what it descends from stays behind.
    entry = content["models"][champion] | {"anchor_id": champion, "parent_id": None}
    content |= {"models": {}, "performance_history": [], "promotion_history": []}
    if (registry / golden.REGISTRY).exists():
        content = golden.read_json(registry / golden.REGISTRY)
    content["models"][champion] = entry
    golden.write_json(registry / golden.REGISTRY, content)
    shutil.copy(golden.CONFIG, registry)
    shutil.copytree(Path("exported", champion), registry / champion)
    scoring = entry["lineage"]["scoring"]
    shutil.copy(Path("store", "artifacts", scoring["bucket"], scoring["path"]), registry / champion)
    golden.write_json(registry / champion / golden.ANSWERS, answered(lived, champion, rows))


def answered(lived: Project, champion: str, rows: Rows) -> dict[str, Any]:
    """What the artifact says of rows."""
    with lived.opened() as store:
        version = store.get_model(load_settings().model_name, champion)
        model = load_model_version(store, version)
    kind = object if model.text_column_ else float
    answered = model.predict_proba(np.asarray([list(row.values()) for row in rows], dtype=kind))
    classes = model.classes_.tolist()
    named = [dict(zip(classes, shares, strict=True)) for shares in answered.tolist()]
    return {"rows": list(rows), "probabilities": named}


def main() -> None:
    """Make all of them."""
    for make in (make_classifiers, make_router):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
    make_embedded()
    make_supabase()


if __name__ == "__main__":
    main()
