"""From somebody's own file to settings, a verdict, a first champion and a night that is learned."""

from __future__ import annotations

import json
import os
import pty
import random
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.config.settings import load_settings
from ml_pipeline.store.records import EVENT_COLUMNS
from tests.support import league, warm
from tests.support.factories import frame_of, make_id
from tests.support.places import Place
from tests.support.shell import PYTHON, Finished, environment

CONFIG = "model_config.yaml"
ROWS = 300
DAYS = 60


def cells(number: int) -> dict[str, str]:
    """A customer: a category, a truth, a gap, a date, an id and what leaks the result."""
    draw = random.Random(number)
    plan = draw.choice(["basic", "plus", "family"])
    calls = draw.randint(0, 9)
    autopay = draw.random() < 0.6
    score = calls - 4.5 + {"basic": 1.5, "plus": 0.0, "family": -1.5}[plan] - 2 * autopay
    churned = draw.gauss(score, 2) > 0
    day = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=number * DAYS // ROWS)
    return {
        "customer_id": f"c{number:04d}",
        "seen_on": day.date().isoformat(),
        "plan": plan,
        "calls": str(calls) if draw.random() > 0.1 else "",
        "autopay": "yes" if autopay else "no",
        "signed_up": (day - timedelta(days=draw.randint(5, 900))).date().isoformat(),
        "refund": f"{draw.uniform(1, 9):.2f}" if churned else "",
        "churned": "yes" if churned else "no",
    }


def write_rows(path: Path, rows: int = ROWS, **changes: Callable[[int], str]) -> Path:
    table = [
        cells(number) | {name: change(number) for name, change in changes.items()}
        for number in range(rows)
    ]
    lines = [",".join(table[0]), *(",".join(row.values()) for row in table)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(folder: Path, *arguments: str, **variables: str) -> Finished:
    return warm.ml_pipeline(*arguments, cwd=folder, **variables)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".warm")


def day_of_answers(
    place: Place, model: Mapping[str, Any], rows: list[dict[str, Any]], labels: list[str]
) -> None:
    """Answers of the champion that were given yesterday, with what really happened."""
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0) - timedelta(hours=6)
    events = [
        dict.fromkeys(EVENT_COLUMNS)
        | {
            "event_id": make_id(number),
            "event_type": "prediction",
            "model_name": model["model_name"],
            "model_id": model["model_id"],
            "match_id": f"new-{number}",
            "timestamp": yesterday,
            "evaluated_at": yesterday,
            "prediction": model["labels"][number % len(model["labels"])],
            "confidence": 0.9,
            "features": json.dumps(row),
            "actual_result": label,
            "status": "evaluated",
        }
        for number, (row, label) in enumerate(zip(rows, labels, strict=True), 1)
    ]
    with place.opened() as store:
        store.append_events(frame_of(events))


@pytest.mark.long
def test_a_file_becomes_settings_a_verdict_a_champion_and_a_night(
    place: Place, tmp_path: Path
) -> None:
    write_rows(tmp_path / "customers.csv")
    begun = run(tmp_path, "init", "--from", "customers.csv", "--target", "Churned")
    assert begun.code == 0, begun.stderr
    found = begun.json
    assert found["features"] == {
        "plan": "category", "calls": "number", "autopay": "boolean", "signed_up": "datetime",
    }  # fmt: skip
    assert (found["time_column"], found["id_column"]) == ("seen_on", "customer_id")
    assert [suspect["column"] for suspect in found["suspects"]] == ["refund"]
    assert "leakage" in found["left_out"]["refund"]
    assert set(found["classes"]) == {"no", "yes"}
    assert found["backtest"]["seconds"] <= 20
    assert found["verdict"] in begun.stderr
    assert found["next"] == "ml-pipeline train --register"
    written = (tmp_path / CONFIG).read_text(encoding="utf-8")
    assert "# refund determines churned" in written
    settings = load_settings(tmp_path / CONFIG, environment={})
    assert {name: str(kind) for name, kind in settings.data.kinds.items()} == found["features"]

    trained = run(tmp_path, "train", "--register", **place.variables)
    assert trained.code == 0, trained.stderr
    assert trained.json["outcome"] == "promoted"

    kinds: list[dict[str, Any]] = [
        {"plan": "startup", "calls": None, "autopay": True, "signed_up": None},
        {"plan": None, "calls": 3, "autopay": None, "signed_up": "2026-03-01"},
    ]
    rows = [kinds[number % 2] for number in range(40)]
    model = {
        "model_name": settings.model_name, "model_id": trained.json["model_id"],
        "labels": ["yes", "no"],
    }  # fmt: skip
    day_of_answers(place, model, rows, ["no", "yes", "yes", "no"] * 10)
    night = run(tmp_path, "run", **place.variables)
    assert night.code == 0, night.stderr
    assert night.json["outcome"] in {"promoted", "rejected", "awaiting_approval"}
    assert night.json["training_rows"] == 40


def test_settings_that_are_there_stay_unless_force_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv")
    (tmp_path / CONFIG).write_text("data: {training_dataset: rows.csv}\n")
    flags = ("init", "--from", "rows.csv", "--target", "churned")
    refused = run(tmp_path, *flags)
    assert refused.code == 1
    assert f"{CONFIG} is there already; nothing was written." in refused.json["error"]
    assert left_in(tmp_path) == [CONFIG, "rows.csv"]
    assert (tmp_path / CONFIG).read_text() == "data: {training_dataset: rows.csv}\n"
    elsewhere = run(tmp_path, *flags, "--config", "other.yaml")
    assert elsewhere.code == 0, elsewhere.stderr
    assert elsewhere.json["next"] == "ml-pipeline train --register --config other.yaml"
    forced = run(tmp_path, *flags, "--force")
    assert forced.code == 0, forced.stderr
    assert left_in(tmp_path) == [CONFIG, "other.yaml", "rows.csv"]
    assert load_settings(tmp_path / CONFIG, environment={}).data.target == "churned"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "churnd"), "Did you mean 'churned'?"),
        ((), "nobody says which column is to be predicted"),
        (("--target", "churned", "--time", "plan"), "plan is not an ISO 8601 time"),
        (("--target", "calls", "--id", "who"), "has no column 'who'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    write_rows(tmp_path / "rows.csv")
    done = run(tmp_path, "init", "--from", "rows.csv", *arguments)
    assert done.code == 1
    assert words in done.json["error"]
    assert left_in(tmp_path) == ["rows.csv"]


def test_flags_that_mean_nothing_together_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv")
    for arguments in (
        ("--target", "churned"),
        ("--from-log", "--target", "churned", "--local", "store"),
        ("--from", "rows.csv", "--example", "router"),
    ):
        done = run(tmp_path, "init", *arguments)
        assert done.code == 1, arguments
        assert CONFIG not in left_in(tmp_path)
    assert run(tmp_path, "init", "--from", "rows.csv", "--from-log").code == 2


def test_names_of_every_sort_come_through_the_settings_file(tmp_path: Path) -> None:
    names = ['he said "x"', "a.b", "👍", "n" * 300, "yes", "# no", "a: b", "'", "\\", "- x", "\x85"]
    header = ",".join('"' + name.replace('"', '""') + '"' for name in [*names, "null"])
    lines = [
        ",".join([*(str((n * 7 + k) % 11) for k in range(len(names))), "no" if n % 3 else "off"])
        for n in range(80)
    ]
    path = tmp_path / 'my "rows", 👍.csv'
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    done = run(tmp_path, "init", "--from", path.name, "--target", "null")
    assert done.code == 0, done.stderr
    data = load_settings(tmp_path / CONFIG, environment={}).data
    assert (data.target, data.classes) == ("null", ["no", "off"])
    assert data.features == list(done.json["features"])
    assert set(names) - {"\x85"} <= set(data.features)
    assert data.training_dataset == path.name


def test_imbalance_rare_classes_and_open_rows_are_told(tmp_path: Path) -> None:
    labels = dict.fromkeys(range(0, ROWS, 25), "fraud")

    def label(number: int) -> str:
        return "" if number % 10 == 1 else labels.get(number, "fine")

    write_rows(tmp_path / "rows.csv", churned=label)
    done = run(tmp_path, "init", "--from", "rows.csv", "--target", "churned")
    assert done.code == 0, done.stderr
    assert done.json["unlabelled"] == 30
    assert done.json["rare_classes"] == {"fraud": 12}
    assert "4.4% of the rows are fraud: always answering fine" in done.stderr
    assert load_settings(tmp_path / CONFIG, environment={}).data.unlabelled_rows == "skip"


@pytest.mark.long
def test_a_log_becomes_settings_and_a_champion(place: Place, tmp_path: Path) -> None:
    start = datetime.now(UTC) - timedelta(days=DAYS)
    wanted = ("plan", "calls", "autopay", "signed_up")
    events = []
    for number in range(ROWS):
        row = cells(number)
        day = start + timedelta(days=number * DAYS / ROWS)
        features = {name: row[name] or None for name in wanted}
        events.append(
            dict.fromkeys(EVENT_COLUMNS)
            | {
                "event_id": make_id(number), "event_type": "prediction", "model_name": "default",
                "model_id": league.OF_ANOTHER_STORE, "match_id": f"m{number}", "timestamp": day,
                "evaluated_at": day, "prediction": "no", "confidence": 0.8,
                "features": json.dumps(features), "actual_result": row["churned"],
                "status": "evaluated",
            }
        )  # fmt: skip
    with place.opened() as store:
        store.append_events(frame_of(events))
    begun = run(tmp_path, "init", "--from-log", **place.variables)
    assert begun.code == 0, begun.stderr
    assert list(begun.json["features"]) == list(wanted)
    assert begun.json["rows"] == ROWS
    data = load_settings(tmp_path / CONFIG, environment={}).data
    assert (data.training_dataset, data.time_column, data.group_column) == ("log", None, None)
    trained = run(tmp_path, "train", "--register", **place.variables)
    assert trained.code == 0, trained.stderr
    assert trained.json["outcome"] == "promoted"


# ------------------------------------------------------------------------- on a terminal


# What starts the tests may ignore Ctrl-C, and its children inherit that.
HEEDING_CTRL_C = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('ml_pipeline', run_name='__main__', alter_sys=True)"
)


class Terminal:
    """`init --from` with a person before it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [PYTHON, "-c", HEEDING_CTRL_C, "init", *arguments], cwd=folder, stdin=slave,
            stderr=slave, stdout=subprocess.PIPE, env=environment(), start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def waits_for(self, words: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while words not in self.shown:
            assert time.monotonic() < end, self.shown
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    break
        assert words in self.shown, self.shown

    def types(self, text: str) -> None:
        os.write(self.master, text.encode())

    def ends(self, seconds: float = 60) -> tuple[int, dict[str, Any]]:
        assert self.process.stdout is not None
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > end:
                self.process.kill()
            if select.select([self.master], [], [], 0.1)[0]:
                with suppress(OSError):
                    os.read(self.master, 65536)
        with self.process.stdout as file:
            out = file.read()
        os.close(self.master)
        return self.process.returncode, json.loads(out.decode().splitlines()[-1])


@pytest.mark.long
def test_a_person_is_asked_where_it_is_not_sure(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv")
    terminal = Terminal(tmp_path, "--from", "rows.csv")
    terminal.waits_for("Which column is to be predicted?")
    terminal.types("nothing\n")
    terminal.waits_for("'nothing' is none of them")
    terminal.types("churn\n")
    terminal.waits_for("so that refund may be a feature?")
    terminal.types("yes\n")
    code, found = terminal.ends()
    assert code == 0
    assert (found["target"], found["time_column"]) == ("churned", "seen_on")
    assert "refund" in found["features"]
    assert found["decided"] == []


@pytest.mark.long
@pytest.mark.parametrize("way", ["Ctrl-C", "Ctrl-D"])
def test_a_dialogue_that_is_cut_off_leaves_nothing_behind(tmp_path: Path, way: str) -> None:
    write_rows(tmp_path / "rows.csv")
    terminal = Terminal(tmp_path, "--from", "rows.csv", "--target", "churned")
    terminal.waits_for("> ")
    if way == "Ctrl-C":
        os.killpg(terminal.process.pid, signal.SIGINT)
    else:
        terminal.types("\x04")
    code, found = terminal.ends()
    assert code == (130 if way == "Ctrl-C" else 1)
    assert found["status"] == "failed"
    assert left_in(tmp_path) == ["rows.csv"]
