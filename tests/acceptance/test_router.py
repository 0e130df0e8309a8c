"""The router example: from an empty project to answers, and through a night, on both stores."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.errors import InputError
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.serving.engine import PredictionEngine
from ml_pipeline.store.records import EVENT_COLUMNS
from tests.support import warm
from tests.support.factories import frame_of, make_id
from tests.support.places import EMBEDDED, Place
from tests.support.shell import PYTHON, ROOT, Finished, environment

Command = Callable[..., Finished]
QUESTION = "What is the capital of Norway?"
LONG = "Explain this: " + "why " * 262_144
AWKWARD = 'Why does "x"\nprint 👍, and not None?'


@pytest.fixture
def ml_pipeline(place: Place, tmp_path: Path) -> Command:
    """A command in an empty folder with an empty store."""

    def run(*arguments: str) -> Finished:
        return warm.ml_pipeline(*arguments, cwd=tmp_path, **place.variables)

    return run


def prompts(folder: Path) -> list[dict[str, str]]:
    with (folder / "router_prompts.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def live_through_yesterday(place: Place, folder: Path, model_id: str) -> None:
    """Forty questions were answered and judged yesterday, every fourth one wrongly."""
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0) - timedelta(hours=6)
    rows = [
        dict.fromkeys(EVENT_COLUMNS)
        | {
            "event_id": make_id(number),
            "event_type": "prediction",
            "model_name": "router",
            "model_id": model_id,
            "timestamp": yesterday,
            "evaluated_at": yesterday,
            "prediction": "EASY" if number % 4 == 0 else row["label"],
            "confidence": 0.9,
            "features": json.dumps({"query": row["query"] + "\n" + AWKWARD}),
            "actual_result": row["label"],
            "status": "evaluated",
        }
        for number, row in enumerate(prompts(folder)[:40], 1)
    ]
    with place.opened() as store:
        store.append_events(frame_of(rows))


def test_the_router_comes_from_an_empty_project_to_answers_and_through_a_night(
    place: Place, ml_pipeline: Command, tmp_path: Path
) -> None:
    begun = ml_pipeline("init", "--example", "router")
    assert begun.code == 0, begun.stderr
    assert begun.json["files"] == ["model_config.yaml", "router_prompts.csv"]
    assert begun.json["status"] == ("ready" if place.kind == EMBEDDED else "written")
    early = ml_pipeline("predict", "--text", QUESTION)
    assert early.code == 1
    assert "No model serves router yet" in early.json["error"]

    trained = ml_pipeline("train", "--register")
    assert trained.code == 0, trained.stderr
    assert trained.json["outcome"] == "promoted"
    model_id = trained.json["model_id"]

    asked = ml_pipeline("predict", "--text", QUESTION, "--match-id", "q-1")
    assert asked.code == 0, asked.stderr
    assert (asked.json["prediction"], asked.json["model_id"]) == ("EASY", model_id)
    assert ml_pipeline("predict", "--info").json["scored_from"] == "scoring file"
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["query"], [AWKWARD], [""], [LONG]])
    done = ml_pipeline("predict", "--batch", "rows.csv").json
    assert (done["predicted"], done["errors"], done["logged"]) == (1, 2, 1)
    reported = ml_pipeline("outcome", "--match-id", "q-1", "--actual", "easy")
    assert reported.code == 0, reported.stderr
    assert reported.json["accuracy"] == 1.0
    compared = ml_pipeline("reconcile").json
    assert (compared["consistent"], compared["table_events"]) == (True, 2)

    live_through_yesterday(place, tmp_path, model_id)
    night = ml_pipeline("run", "--min_errors", "5")
    assert night.code == 0, night.stderr
    assert night.json["outcome"] in {"promoted", "rejected", "awaiting_approval"}
    assert night.json["training_rows"] >= 40
    assert night.json["dataset_size"] >= 5
    with place.opened() as store:
        line = store.get_model("router", night.json["challenger"])
        model = load_model_version(store, line)
    assert model.line_["rows_seen"] == 40
    assert model.text_column_ == "query"
    report = ml_pipeline("report", night.json["run_id"]).json
    for kind, escaped in (("html", "&#34;x&#34;"), ("markdown", '"x"')):
        shown = (tmp_path / report[kind]).read_text(encoding="utf-8")
        assert f"Why does {escaped}" in shown
        assert "👍" in shown
    again = ml_pipeline("replay", night.json["run_id"])
    assert (again.code, again.json["result"]) == (0, "identical"), again.stdout


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the manual's commands were run, word for word."""
    folder = tmp_path_factory.mktemp("router")
    page = (ROOT / "docs" / "predicting.md").read_text(encoding="utf-8")
    block = page.partition("<!-- router -->\n```bash\n")[2].partition("```")[0]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [command[:2] for command in commands] == [
        ["ml-pipeline", name] for name in ("init", "train", "predict")
    ]
    for command in commands:
        done = warm.ml_pipeline(*command[1:], cwd=folder)
        assert done.code == 0, done.stderr
    assert done.json["prediction"] == "EASY"
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--text", ""], "The text (query) is empty."),
        (["--text", " \n "], "The text (query) is empty."),
        (["--text", "\udce9t\udce9"], "is not valid Unicode"),
        (["--predict", "1", "2"], "The model reads a text (query), and none was given."),
        (["--predict", "1", "2", "--text", "how?"], "reads a text and no numbers, and 2 were"),
    ],
)
def test_what_the_router_cannot_read_is_named(
    router: Path, arguments: list[str], words: str
) -> None:
    done = warm.ml_pipeline("predict", *arguments, "--local", "store", cwd=router)
    assert done.code == 1
    assert words in done.json["error"]
    log = (router / "store" / "logs" / "evaluation_log.csv").read_text(encoding="utf-8")
    assert len(log.splitlines()) == 2


@pytest.mark.parametrize(
    ("piped", "code", "words"),
    [
        (QUESTION.encode(), 0, '"prediction": "EASY"'),
        (LONG.encode(), 1, "has 1048590 characters, at most 100000 are read"),
        (b"caf\xe9", 1, "is not valid Unicode"),
        (b"", 1, "is empty"),
    ],
)
def test_a_text_of_any_size_is_read_from_standard_input(
    router: Path, piped: bytes, code: int, words: str
) -> None:
    done = subprocess.run(
        [PYTHON, "-m", "ml_pipeline", "predict", "--text", "-", "--local", "store",
         "--no-log"],
        cwd=router, env=environment(), input=piped, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert words in done.stdout.decode()


def test_python_gives_a_text_by_name_alone_or_in_a_row(
    router: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(router)
    with PredictionEngine(local_dir="store", log=False) as engine:
        once = engine.predict(text=QUESTION)["probabilities"]
        rows: list[Any] = [
            QUESTION,
            {"query": QUESTION, "match_id": "m"},
            {"query": "a\0b"},
            {"query": 5},
            LONG,
        ]
        answers = engine.batch_predict(rows)
        assert [answer.get("probabilities") for answer in answers[:2]] == [once, once]
        assert [answer["error"][:45] for answer in answers[2:]] == [
            "The text (query) holds a NUL character.",
            "query = 5 is not a text.",
            "The text (query) has 1048590 characters, at m",
        ]
        with pytest.raises(InputError, match="none was given"):
            engine.predict({"match_id": "m"})


def test_an_example_never_writes_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "model_config.yaml").write_text("model_name: mine\n")
    done = warm.ml_pipeline("init", "--example", "router", cwd=tmp_path)
    assert done.code == 1
    assert "model_config.yaml exists already" in done.json["error"]
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == [
        "model_config.yaml"
    ]
    (tmp_path / "model_config.yaml").unlink()
    for _ in range(2):
        assert warm.ml_pipeline("init", "--example", "router", cwd=tmp_path).code == 0
    refused = warm.ml_pipeline("init", "--example", "router", "--print_sql", cwd=tmp_path)
    assert refused.code == 1
