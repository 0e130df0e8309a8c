"""`labels add` on both stores: what is added, known, filled, refused, and learned afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ml_pipeline.commands import labels
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.datasets.ground_truth import read_truth
from ml_pipeline.store.contract import Store
from tests.support.factories import NOW, make_event, make_events, make_id
from tests.support.places import EMBEDDED, Place
from tests.support.shell import Finished

CONFIG = {
    "data": {"features": ["a", "b"], "classes": ["EASY", "HARD"], "labels": {"leicht": "EASY"}},
    "training": {"min_training_samples": 1},
}
Add = Callable[..., Finished]


@pytest.fixture
def add(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Add:
    """The command in this process, on the store of `place`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ML_PIPELINE_LOCAL", raising=False)
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "model_config.yaml").write_text(yaml.safe_dump(CONFIG))

    def run(
        *arguments: str, text: str | None = None, config: dict[str, object] | None = None
    ) -> Finished:
        if text is not None:
            (tmp_path / "labels.csv").write_text(text)
            arguments = ("--csv", "labels.csv", *arguments)
        if config is not None:
            (tmp_path / "model_config.yaml").write_text(yaml.safe_dump(CONFIG | config))
        code = labels.main(["add", *arguments])
        return Finished(code, *capsys.readouterr())

    return run


def settings() -> Settings:
    return load_settings(Path("model_config.yaml"))


def table(store: Store) -> pd.DataFrame:
    frames = list(store.read_table("ml_data", key="id"))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def counts(done: Finished) -> tuple[int, ...]:
    names = ("added", "filled", "already_known", "without_label")
    return (*(done.json[name] for name in names), len(done.json["refused"]))


def test_labels_of_a_file_are_added_once_and_learned(place: Place, add: Add) -> None:
    text = "ID;Label;a;B\nq1;easy;0,5;1\nq2;leicht;1,5;2\nq3; HARD ;-2,5;\nq4;;1,0;1\n"
    dry = add("--dry-run", text=text)
    assert (dry.code, counts(dry)) == (0, (3, 0, 0, 1, 0)), dry.stderr
    with place.opened() as store:
        assert len(table(store)) == 0
        done = add(text=text)
        assert (done.code, counts(done)) == (0, (3, 0, 0, 1, 0)), done.stderr
        assert sorted(table(store)["label"]) == ["EASY", "EASY", "HARD"]
        again = add(text=text.replace("easy", "EASY"))
        assert (again.code, counts(again)) == (0, (0, 0, 3, 1, 0))
        rows, report = read_truth(store, settings())
    assert (report.usable, report.bad) == (3, 0)
    learned = sorted(zip(rows.features[:, 0].tolist(), rows.labels.tolist(), strict=True))
    assert learned == [(-2.5, "HARD"), (0.5, "EASY"), (1.5, "EASY")]


def test_what_contradicts_or_is_no_label_is_refused_by_line_and_the_rest_is_added(
    place: Place, add: Add
) -> None:
    assert add(text="id,label,a,b\nq1,EASY,1,1\n").code == 0
    done = add(
        text="id,label,a,b\nq1,HARD,1,1\nq2,banana,1,1\nq3,HARD,1,1\nq4,EASY,x,1\nq5,EASY,1,1\n"
        "q5,HARD,1,1\nq6,EASY,,\n"
    )
    assert done.code == 1
    assert done.json["status"] == "failed"
    found = {item["line"]: item["reason"] for item in done.json["refused"]}
    assert found == {
        2: "The label EASY stands.",
        3: "'banana' is no label.",
        5: "a = 'x' is not a number.",
        6: "It is given several labels: EASY, HARD.",
        7: "It is given several labels: EASY, HARD.",
        8: "Nothing says what it is the label of.",
    }
    hints = {item["line"]: item["hint"] for item in done.json["refused"]}
    assert "correct the row" in hints[2]
    assert "Known labels: EASY, HARD" in hints[3]
    assert "line 3: 'banana' is no label." in done.stderr
    with place.opened() as store:
        assert sorted(table(store)["label"]) == ["EASY", "HARD"]


def test_a_label_of_a_logged_prediction_takes_its_features(place: Place, add: Add) -> None:
    with place.opened() as store:
        store.append_events(
            make_events(1, 2, features=json.dumps({"a": 4.5, "b": 1.0}), model_name="default")
        )
        event, match = make_event(1), make_event(2)
        assert add("--id", str(match["match_id"]), "--label", "HARD").code == 0
        done = add("--id", str(event["event_id"]), "--label", "easy")
        assert (done.code, counts(done)) == (0, (1, 0, 0, 0, 0))
        rows, _ = read_truth(store, settings())
        assert sorted(rows.labels.tolist()) == ["EASY", "HARD"]
        assert rows.features.tolist() == [[4.5, 1.0], [4.5, 1.0]]


def test_a_row_that_waits_for_its_label_gets_it(place: Place, add: Add) -> None:
    waiting = {"id": make_id(7), "created_at": NOW, "features": {"a": 1.0, "b": 2.0}}
    with place.opened() as store:
        store.add_labels([waiting])
        done = add("--id", make_id(7), "--label", "leicht")
        assert (done.code, counts(done)) == (0, (0, 1, 0, 0, 0)), done.stderr
        assert table(store)[["id", "label"]].to_numpy().tolist() == [[make_id(7), "EASY"]]
        assert add("--id", make_id(7), "--label", "HARD").code == 1
        assert store.known_labels([make_id(7), make_id(8), "no id"]) == {make_id(7): "EASY"}


def test_a_text_is_its_own_id_where_none_is_given(place: Place, add: Add) -> None:
    config: dict[str, object] = {
        "data": {**CONFIG["data"], "features": [], "text_column": "query"}  # type: ignore[dict-item]
    }
    done = add(text="query,label\nhow?,EASY\nwhy?,HARD\nhow?,easy\n", config=config)
    assert (done.code, counts(done)) == (0, (2, 0, 1, 0, 0)), done.stderr
    assert add("--text", "why?", "--label", "EASY").code == 1
    with place.opened() as store:
        assert sorted(table(store)["query"]) == ["how?", "why?"]
        rows, _ = read_truth(store, settings())
    assert sorted(rows.labels.tolist()) == ["EASY", "HARD"]


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        ((), "id,kind\nq,1\n", "needs a column label"),
        ((), "id,label\nq,\n", "has no label in any of its 1 rows"),
        ((), "id,label,created_at\nq,EASY,03/04/2026\n", "line 2: created_at"),
        ((), "id,label,created_at\nq,EASY,2999-01-01\n", "is in the future"),
        ((), "id,label,features\nq,EASY,x\n", "line 2: features is no JSON object"),
        (("--label", "EASY"), None, "Give --csv FILE"),
        (("--id", "q", "--label", "EASY", "--features", "["), None, "--features is no JSON"),
        (("--id", "q", "--label", "EASY", "--text", "x"), None, "reads no text"),
    ],
)
@pytest.mark.usefixtures("place")
def test_what_cannot_be_used_adds_nothing(
    add: Add, arguments: tuple[str, ...], text: str | None, words: str
) -> None:
    done = add(*arguments, text=text)
    assert done.code == 1
    assert words in done.json["error"]


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
@pytest.mark.usefixtures("place")
def test_another_table_is_not_filled(add: Add) -> None:
    done = add("--id", "q", "--label", "EASY", config={"ground_truth": {"table": "mine"}})
    assert done.code == 1
    assert "ground_truth.table is mine" in done.json["error"]


def test_a_label_that_no_table_can_hold_is_refused_alone(place: Place, add: Add) -> None:
    extra = ["Infinity", "NaN", '"\\u0000"', '"\\ud800"', "1"]
    rows = [json.dumps(f'{{"a": {n}, "b": 2, "c": {value}}}') for n, value in enumerate(extra)]
    cells = [row.replace('\\"', '""').replace("\\\\", "\\") for row in rows]
    done = add(
        text="id,label,features\n" + "".join(f"q{n},HARD,{c}\n" for n, c in enumerate(cells))
    )
    assert (done.code, counts(done)) == (1, (2, 0, 0, 0, 3)), done.stderr
    assert [item["line"] for item in done.json["refused"]] == [2, 4, 5]
    done = add("--id", "caf\udce9", "--label", "HARD", "--features", '{"a": 1, "b": 1}')
    assert (done.code, "not valid Unicode" in done.json["refused"][0]["reason"]) == (1, True)
    with place.opened() as store:
        assert len(table(store)) == 2
        found = store.find_events(model_name="default", event_ids=[], match_ids=["caf\udce9"])
        assert found.empty


@pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
def test_a_prediction_whose_features_are_no_object_says_nothing_of_its_label(
    place: Place, add: Add
) -> None:
    with place.opened() as store:
        store.append_events(make_events(1, match_id="x", model_name="default", features="[1, 2]"))
    done = add("--id", "x", "--label", "HARD")
    assert (done.code, counts(done)) == (1, (0, 0, 0, 0, 1)), done.stderr


@pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
def test_l12_what_a_program_writes_for_no_id_is_none(place: Place, add: Add) -> None:
    done = add(text="id,label,a,b\nnan,EASY,1,1\nNone,EASY,2,1\nNULL,HARD,3,1\n<NA>,EASY,4,1\n")
    assert (done.code, counts(done)) == (0, (4, 0, 0, 0, 0)), done.stderr
    with place.opened() as store:
        event = make_event(
            match_id=None, model_name="default", features=json.dumps({"a": 9.0, "b": 9.0})
        )
        store.append_events(pd.DataFrame([event]))
        done = add(text=f"id,label\nNone,EASY\n{event['event_id']},HARD\n")
        assert (done.code, counts(done)) == (1, (1, 0, 0, 0, 1)), done.stderr
        assert done.json["refused"][0]["line"] == 2
