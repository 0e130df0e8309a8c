"""Whose answer it is that heads learn to correct, told from the rows of one log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.labelled_file import read_labelled
from ml_pipeline.evaluation_log.answering.registered import MOST_ASKED
from ml_pipeline.runs.manifest import days_of
from ml_pipeline.store.inputs.incumbent_columns import LOGGED_ANSWER
from tests.support.factories import make_id, make_model
from tests.support.logs import Desk, fill_table, make_log_request, make_row, settings_for

REQUEST = make_log_request(of_incumbent=True)
SHARES = ["incumbent:H", "incumbent:D", "incumbent:A"]
THEIRS = {"H": 0.9, "D": 0.06, "A": 0.04}
CORRECTED = {"H": 0.3, "D": 0.3, "A": 0.4}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.store.register(make_model("ours-1"))
    return desk


def corrected(number: int, incumbent: object, **changes: str) -> dict[str, str]:
    """A row that `correct` logged: its own answer, and the incumbent's beside it."""
    return make_row(
        number, model_id="ours-1", prediction="A", actual_result="H", confidence="0.4",
        probabilities=json.dumps(CORRECTED), metadata=json.dumps({"incumbent": incumbent}),
        **changes,
    )  # fmt: skip


def reading(settings: Settings) -> Settings:
    """The settings by which a model that reads the answers learns."""
    kinds = {name: settings.data.kind(name) for name in [*settings.data.features, *SHARES]}
    return settings.reading(kinds)


def learned(desk: Desk, rows: list[dict[str, str]], where: str) -> dict[str, list[float]]:
    """The incumbent's probabilities of the rows that can be learned, by event."""
    if where == "table":
        fill_table(desk.store, rows)
        loaded = desk.load_file("table", request=REQUEST)
    else:
        loaded = desk.load(rows, request=REQUEST)
    data = read_labelled(str(loaded.labelled_path), reading(settings_for("table")), whole=False)
    return {
        event: row[-3:].tolist()
        for event, row in zip(data.frame["event_id"], data.features, strict=True)
    }


@pytest.mark.parametrize("where", ["table", "file"])
def test_a_mixed_log_tells_what_the_incumbent_answered_of_each_row(desk: Desk, where: str) -> None:
    rows = [
        make_row(1, probabilities=json.dumps(THEIRS)),
        make_row(2, model_id=None, confidence="0.8"),
        corrected(3, THEIRS),
        corrected(4, {"prediction": "D", "confidence": 0.5}),
        make_row(
            5, prediction="UNCERTAIN", confidence="0.4",
            metadata=json.dumps({"best_guess": "D"}),
        ),
        make_row(6, model_id="ours-1", probabilities=json.dumps(THEIRS)),
        make_row(7, prediction="UNCERTAIN", confidence="0.4"),
    ]  # fmt: skip
    found = learned(desk, rows, where)
    expected = {
        1: [0.9, 0.06, 0.04],
        2: [0.8, 0.1, 0.1],
        3: [0.9, 0.06, 0.04],
        4: [0.25, 0.5, 0.25],
        5: [0.3, 0.4, 0.3],
    }
    assert found == {make_id(n): pytest.approx(shares) for n, shares in expected.items()}


def test_rows_without_an_answer_are_counted_and_keep_nothing_from_being_learned(
    desk: Desk,
) -> None:
    rows = [make_row(n, model_id="ours-1") for n in range(1, 9)] + [make_row(9)]
    report = desk.load(rows, request=REQUEST, log__max_bad_rows=0.05).report
    assert (report.labelled, report.unusable, report.faulty) == (9, 8, 0)
    assert report.reasons == {"unusable: no answer of the incumbent": 8}
    report.require_usable(settings_for("table", log__max_bad_rows=0.05))


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"H": 0.5, "D": 0.6}, "probabilities do not sum to 1 (within 0.000001)"),
        ({"H": 0.5, "X": 0.5}, "probabilities name an unknown label"),
        ({"H": 40, "D": 60}, "probabilities are over 1 (percent?)"),
        ({"H": -0.5, "D": 1.5}, "probabilities are negative"),
        ({"H": "much"}, "probabilities are not a JSON object of numbers"),
        ([0.5, 0.5], "probabilities are not a JSON object of numbers"),
        ({"prediction": "X", "confidence": 0.5}, "prediction is no label"),
        ({"prediction": "H", "confidence": 50}, "confidence is no number from 0 to 1"),
        ({"prediction": "H"}, "confidence is no number from 0 to 1"),
    ],
)
def test_an_answer_that_is_none_sets_its_row_aside(desk: Desk, answer: object, fault: str) -> None:
    report = desk.load([corrected(1, answer), make_row(2)], request=REQUEST).report
    assert report.reasons == {f"unusable: the incumbent's {fault}": 1}
    assert (report.labelled, report.faulty) == (2, 1)


def test_named_models_are_theirs_and_others_are_not(desk: Desk) -> None:
    ids = ("llm-2", "llm-1", None)
    rows = [make_row(number, model_id=model_id) for number, model_id in enumerate(ids, 1)]
    loaded = desk.load(rows, request=REQUEST, incumbent__model_ids=["llm-2"])
    assert loaded.report.reasons == {"unusable: no answer of the incumbent": 2}
    loaded = desk.load(rows, request=REQUEST, incumbent__model_ids=["llm-2", "ours-1"])
    assert loaded.report.reasons == {"unusable: no answer of the incumbent": 2}
    like_ours = "adaptive-20260314-200000-0f3a5c7e"
    loaded = desk.load([make_row(1, model_id=like_ours)], request=REQUEST)
    assert loaded.report.reasons == {"unusable: no answer of the incumbent": 1}
    loaded = desk.load(
        [make_row(1, model_id=like_ours)], request=REQUEST, incumbent__model_ids=[like_ours]
    )
    assert loaded.report.unusable == 0


def test_a_log_with_an_id_for_each_answer_asks_the_registry_for_some_of_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = desk.store.get_model

    def get_model(model_name: str, model_id: str) -> object:
        asked.append(model_id)
        return ask(model_name, model_id)

    monkeypatch.setattr(desk.store, "get_model", get_model)
    rows = [make_row(n, model_id=f"request {n}") for n in range(2, 2 * MOST_ASKED)]
    rows += [make_row(1, model_id="ours-1")]
    report = desk.load(rows, request=REQUEST).report
    assert report.reasons == {"unusable: no answer of the incumbent": 1}
    assert len(asked) == MOST_ASKED


def test_nobody_reads_answers_that_are_not_asked_for(desk: Desk) -> None:
    loaded = desk.load([corrected(1, {"X": 7}), make_row(2, model_id="ours-1")])
    assert loaded.report.unusable == 0
    assert LOGGED_ANSWER not in loaded.labelled_path.read_text(encoding="utf-8")


def test_the_digest_of_a_day_takes_the_answer_in(desk: Desk) -> None:
    def days(share: float) -> dict[str, list[object]]:
        loaded = desk.load([corrected(1, {"H": share, "D": 1 - share})], request=REQUEST)
        return days_of(loaded.labelled_path, reading(settings_for("table")))

    assert days(0.25) == days(0.25) != days(0.75)
