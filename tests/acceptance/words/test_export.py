"""`export rows` on both stores: which rows, in which form, and what is never in the file."""

from __future__ import annotations

import csv
import json
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from ml_pipeline.commands import export
from tests.support.factories import MODEL_NAME, NOW, frame_of, make_event, make_id
from tests.support.places import EMBEDDED, Place
from tests.support.shell import Finished

CONFIG: dict[str, Any] = {
    "data": {
        "features": {"size": "number", "shop": "category"},
        "text_column": "ticket",
        "classes": ["BILLING", "OTHER"],
    },
    "model_name": MODEL_NAME,
    "export": {"system_prompt": "Answer with one word."},
}
Export = Callable[..., Finished]
UGLY = "=cmd|' /C calc'!A0 \u009b2J\u202e\x1b]0;x\x07"


def ticket(
    number: int, answer: str, label: str | None, text: str, **changes: object
) -> dict[str, Any]:
    features = {"size": number / 2, "shop": "Köln", "ticket": text}
    return make_event(
        number, prediction=answer, actual_result=label, confidence=changes.pop("confidence", 0.9),
        features=json.dumps(features), **changes,
    )  # fmt: skip


EVENTS = [
    ticket(1, "BILLING", "BILLING", "my invoice"),
    ticket(2, "OTHER", "BILLING", "refund, please", model_id="llm:1"),
    ticket(3, "OTHER", "BILLING", "a bill?\nyes", confidence=0.55),
    ticket(4, "UNCERTAIN", "OTHER", "hello"),
    ticket(5, "OTHER", None, "waits"),
    ticket(6, "BILLING", "OTHER", UGLY, probabilities='{"BILLING": 0.9, "OTHER": 0.1}'),
]


@pytest.fixture
def run(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Export:
    """The command in this process, on a store with `EVENTS`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ML_PIPELINE_LOCAL", raising=False)
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "model_config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    with place.opened() as store:
        store.append_events(frame_of(EVENTS))

    def call(*arguments: str) -> Finished:
        try:
            code = export.main(["rows", *arguments])
        except SystemExit as stopped:
            code = int(str(stopped.code))
        return Finished(code, *capsys.readouterr())

    return call


def ids(*numbers: int) -> list[str]:
    return [make_id(number) for number in numbers]


def test_labelled_rows_are_written_in_every_form(run: Export, tmp_path: Path) -> None:
    done = run("--output", "out/rows.jsonl")
    assert (done.code, done.json["rows"], done.json["format"]) == (0, 5, "jsonl"), done.stderr
    path = tmp_path / "out" / "rows.jsonl"
    assert [p.name for p in path.parent.iterdir()] == ["rows.jsonl"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert text.isascii(), "a terminal shows it as it stands"
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["event_id"] for row in rows] == ids(1, 2, 3, 4, 6)
    assert rows[4]["text"] == UGLY
    assert rows[4]["probabilities"] == {"BILLING": 0.9, "OTHER": 0.1}
    assert rows[1] == {
        "event_id": make_id(2), "match_id": "match-2", "model_id": "llm:1",
        "known_at": rows[1]["known_at"], "predicted_at": rows[1]["predicted_at"],
        "prediction": "OTHER", "confidence": 0.9, "probabilities": None, "is_error": True,
        "features": {"size": 1.0, "shop": "Köln"}, "text": "refund, please", "label": "BILLING",
    }  # fmt: skip

    chat = run("--format", "chat", "--only", "errors")
    assert chat.json["path"] == "football_rows.jsonl"
    talks = [json.loads(line) for line in Path("football_rows.jsonl").read_text().splitlines()]
    assert [talk["messages"][0]["content"] for talk in talks] == ["Answer with one word."] * 2
    assert talks[0]["messages"][1:] == [
        {"role": "user", "content": "size: 1.0\nshop: Köln\n\nrefund, please"},
        {"role": "assistant", "content": "BILLING"},
    ]

    assert run("--format", "parquet").json["rows"] == 5
    found = duckdb.connect().execute("SELECT typeof(size), typeof(known_at), shop, ticket, result "
                       "FROM 'football_rows.parquet' ORDER BY size").fetchall()  # fmt: skip
    assert found[0] == ("DOUBLE", "TIMESTAMP WITH TIME ZONE", "Köln", "my invoice", "BILLING")
    assert found[4][3] == UGLY

    assert run("--format", "csv").json["rows"] == 5
    with Path("football_rows.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert cells[2]["ticket"] == "a bill?\nyes"
    assert cells[4]["ticket"].startswith("'=cmd")
    assert not set("\x1b\x07\u009b\u202e") & set(Path("football_rows.csv").read_text())


@pytest.mark.parametrize(
    ("only", "expected"),
    [("errors", (2, 6)), ("accepted", (1,)), ("rejected", (2, 3, 6)), ("all", (1, 2, 3, 4, 6))],
)
def test_the_rows_that_are_asked_for(run: Export, only: str, expected: tuple[int, ...]) -> None:
    assert run("--only", only).json["rows"] == len(expected)
    rows = map(json.loads, Path("football_rows.jsonl").read_text().splitlines())
    assert [row["event_id"] for row in rows] == ids(*expected)


def test_rows_known_before_the_day_and_erased_ones_are_left_out(run: Export, place: Place) -> None:
    since = (NOW + timedelta(minutes=3, hours=1)).isoformat()
    with place.opened() as store:
        store.erase_events(model_name=MODEL_NAME, event_ids={make_id(4)}, match_ids=set())
    assert run("--since", since).json["rows"] == 2
    rows = map(json.loads, Path("football_rows.jsonl").read_text().splitlines())
    assert [row["event_id"] for row in rows] == ids(3, 6)


@pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
def test_the_log_itself_is_not_written_over(run: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    frame_of(EVENTS).to_csv("log.csv", index=False)
    before = Path("log.csv").read_bytes()
    monkeypatch.setenv("ML_PIPELINE__LOG__SOURCE", "log.csv")
    done = run("--format", "csv", "--output", "./log.csv")
    assert (done.code, "would be lost" in done.stderr) == (1, True)
    assert Path("log.csv").read_bytes() == before


def test_an_erased_row_that_a_file_still_has_is_not_written(
    run: Export, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame_of(EVENTS).to_csv("log.csv", index=False)
    monkeypatch.setenv("ML_PIPELINE__LOG__SOURCE", "log.csv")
    with place.opened() as store:
        store.erase_events(model_name=MODEL_NAME, event_ids={make_id(2)}, match_ids=set())
    assert run().json["rows"] == 4
    assert make_id(2) not in Path("football_rows.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--since", "yesterday"), 2, "no day and no time"),
        (("--format", "xml"), 2, "invalid choice"),
        (("--since", "2999-01-01"), 1, "lies in the future"),
        (("--output", "."), 1, "is a folder"),
        (("--output", "/dev/null"), 1, "is no file"),
        (("--output", "model_config.yaml"), 1, "read by the pipeline itself"),
        (("--output", "model_config.yaml/rows"), 1, "cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    run: Export, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir() if path.name != "store")
    done = run(*arguments)
    assert done.code == code
    assert said in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "store") == before
