"""`serve`: answers over HTTP, on the embedded store and on Supabase, and what is left behind."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.commands import serve
from ml_pipeline.errors import ConfigError
from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.serving.engine import PredictionEngine
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.web.predictions.server import Server
from ml_pipeline.web.proxies import Proxies
from tests.conftest import FirstModel
from tests.support import hosting
from tests.support.hosting import BEARER, ROW, SURE, TOKEN, Hosted
from tests.support.places import Place, long_but
from tests.support.shell import PYTHON, environment
from tests.support.supabase import faults

NAMES = (
    "home_team_form", "away_team_form", "home_team_strength", "away_team_strength",
    "home_advantage",
)  # fmt: skip
BY_NAME = dict(zip(NAMES, ROW, strict=True))


@pytest.fixture
def here(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The place, named by this process's environment and nothing else; in a folder of its own."""
    for name in [name for name in os.environ if name.startswith(("SUPABASE", "ML_PIPELINE"))]:
        monkeypatch.delenv(name)
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return place


@pytest.fixture
def store(tmp_path: Path, first_model: FirstModel, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """An embedded store whose champion is the league's first model, in its own folder."""
    for name in [name for name in os.environ if name.startswith(("SUPABASE", "ML_PIPELINE"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    store = LocalStore.open(tmp_path / "store")
    hosting.promote(store, first_model.model, tmp_path, "first")
    return store


@pytest.fixture
def served(store: LocalStore) -> Iterator[Hosted]:  # noqa: ARG001 - it is in that folder
    with hosting.hosting(local_dir="store") as hosted:
        yield hosted


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, first_model: FirstModel) -> Iterator[Hosted]:
    """A service that has logged nothing, shared by tests that log nothing."""
    folder = tmp_path_factory.mktemp("quiet")
    hosting.promote(LocalStore.open(folder / "store"), first_model.model, folder, "first")
    with hosting.hosting(local_dir=folder / "store") as hosted:
        yield hosted


def rows_of(store: Any, *ids: str) -> list[dict[str, Any]]:  # noqa: ANN401 - a Store
    frame = store.find_events(model_name="default", event_ids=ids, match_ids=())
    found: list[dict[str, Any]] = frame.to_dict("records")
    return found


def until(ready: Any, *, seconds: float = 10) -> None:  # noqa: ANN401 - a condition
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _named_twice(count: int) -> bytes:
    """So many members, of which the last two are called the same."""
    members = [f'"f{n}":1' for n in range(count)]
    return f"{{{','.join([*members, members[-1]])}}}".encode()


# ------------------------------------------------------------------------------------ answers


def test_an_answer_is_that_of_predict_and_its_event_outcome_and_label_are_kept(
    here: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    with here.opened() as store:
        hosting.promote(store, first_model.model, tmp_path, "first")
        with hosting.hosting() as hosted:
            answer = hosted.predict(BY_NAME, entity_id="m1")
            with PredictionEngine(log=False) as engine:
                other = engine.predict(ROW, "m1")
            own = {"event_id", "timestamp"}
            assert answer | dict.fromkeys(own) == other | dict.fromkeys(own)
            (csv,) = tmp_path.rglob("evaluation_log.csv")
            line = EventCsv(str(csv)).find([answer["event_id"]])[answer["event_id"]]
            assert json.loads(str(line["features"])) == BY_NAME
            until(lambda: len(rows_of(store, answer["event_id"])) == 1)
            told = hosted.post("/v1/outcome", {"entity_id": "m1", "actual_result": "home"})
            assert (told.status, told.json["recorded"]) == (200, 1)
            (row,) = rows_of(store, answer["event_id"])
            assert (row["actual_result"], row["status"]) == ("H", "evaluated")
            label = hosted.post("/v1/labels", {"id": "m1", "label": "H"})
            assert (label.status, label.json["added"]) == (200, 1)
            again = hosted.post("/v1/labels", {"labels": [{"id": "m1", "label": "A"}]})
            assert (again.status, again.json["refused"][0]["label"]) == (409, "A")
            truth = {**BY_NAME, NAMES[0]: True}
            assert hosted.predict(truth)["prediction"]
            assert hosted.post("/v1/labels", {"features": truth, "label": "H"}).json["added"] == 1
            (table,) = store.read_table("ml_data", key="id")
            kept = [json.loads(features) for features in table["features"]]
            assert {**BY_NAME, NAMES[0]: 1.0} in kept
            unlogged = hosted.predict(log=False)
            assert rows_of(store, unlogged["event_id"]) == []


def test_under_the_threshold_it_is_uncertain_and_what_is_missing_is_imputed(
    served: Hosted,
) -> None:
    unsure = served.predict([0, 0, 0, 0, 0])
    assert unsure["prediction"] == "UNCERTAIN"
    assert unsure["best_guess"] == max(unsure["probabilities"], key=unsure["probabilities"].get)
    assert served.predict(SURE)["prediction"] == "H"
    assert served.predict({**BY_NAME, NAMES[1]: None})["imputed"] == [NAMES[1]]


def test_rows_at_once_are_of_one_model_and_a_bad_one_gets_its_error(
    served: Hosted, store: LocalStore
) -> None:
    rows = [{"features": ROW, "entity_id": 7}, {"features": [1]}, {"features": BY_NAME}]
    found = served.post("/v1/predict/batch", {"rows": rows}).json
    assert (found["rows"], found["predicted"], found["failed"]) == (3, 2, 1)
    assert "takes 5 features" in found["predictions"][1]["error"]
    assert found["predictions"][0]["match_id"] == "7"
    good = [answer["event_id"] for answer in found["predictions"] if "error" not in answer]
    until(lambda: len(rows_of(store, *good)) == 2)
    none = served.post("/v1/predict/batch", {"rows": [{"features": [1]}]})
    assert (none.status, none.json["failed"]) == (422, 1)


def test_the_answer_of_an_incumbent_is_corrected(
    served: Hosted, store: LocalStore, tmp_path: Path
) -> None:
    shares = {"H": 0.5, "D": 0.3, "A": 0.2}
    other = served.post("/v1/correct", {"features": ROW, "probabilities": shares})
    assert (other.status, "corrects nobody" in other.json["detail"]) == (422, True)
    model = hosting.correcting_model()
    hosting.promote(store, model, tmp_path, "corrects")
    until(lambda: served.get("/v1/model").json["corrects_incumbent"])
    answer = served.post("/v1/correct", {"features": BY_NAME, "probabilities": shares, "id": 1})
    expected = hosting.said(model, [*ROW, *shares.values()])
    assert list(answer.json["probabilities"].values()) == pytest.approx(expected, abs=1e-9)
    assert answer.json["incumbent"] == pytest.approx(shares)
    until(lambda: len(rows_of(store, answer.json["event_id"])) == 1)
    (row,) = rows_of(store, answer.json["event_id"])
    assert json.loads(row["metadata"])["incumbent"] == pytest.approx(shares)
    label = {"features": ROW, "prediction": "H", "confidence": 0.6, "log": False}
    assert served.post("/v1/correct", label).json["incumbent"]["H"] == 0.6
    rows = [{"features": ROW, "incumbent": shares}, {"features": ROW}]
    batch = served.post("/v1/predict/batch", {"rows": rows}).json["predictions"]
    assert batch[0]["probabilities"] == answer.json["probabilities"]
    assert "none was given" in batch[1]["error"]
    alone = served.post("/v1/predict", {"features": ROW})
    assert (alone.status, "/v1/correct" in alone.json["hint"]) == (422, True)
    for wrong in (
        {"probabilities": {"H": 2}}, {"probabilities": {"H": None}}, {"prediction": "H"}, {},
        {"probabilities": shares, "prediction": "H"}, {"prediction": "H", "confidence": 7},
    ):  # fmt: skip
        assert served.post("/v1/correct", {"features": ROW, **wrong}).status == 422


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"features": [NaN]}', 400, "NaN is no number of JSON"),
        (b'{"features": [-Infinity]}', 400, "-Infinity is no number"),
        (b'{"features": {"a": 1, "a": 2}}', 400, "'a' stands there twice"),
        (_named_twice(60_000), 400, "'f59999' stands there twice"),
        (b'{"features": ' + b"[" * 100_000, 400, "nested too deeply"),
        (b'{"features": [' + b"[" * 400 + b"]" * 400 + b",1,1,1,1]}", 422, "is not a number"),
        (b'{"features": [' + b"9" * 5000 + b"]}", 400, "cannot be read as JSON"),
        (b'{"features": [1e999,1,1,1,1]}', 422, "is not a finite number"),
        (b'{"features": [1e200,1,1,1,1]}', 422, "is out of range"),
        (b'{"features": [{},1,1,1,1]}', 422, "home_team_form = {} is not a number"),
        (b"\xff", 400, "no UTF-8"),
        (b"", 400, "cannot be read as JSON"),
        (b"[]", 400, "no JSON object"),
        (b"{}", 400, "neither features nor text"),
        (b'{"features": 3}', 400, "features is no object or list"),
        (b'{"features": [1], "log": "no"}', 400, "log is no true or false"),
        (b'{"feature": [1]}', 400, "not known: feature"),
        (b'{"features": [1,2,3,4,5], "id": "a", "entity_id": "b"}', 400, "differ"),
        (b'{"features": [1,2,3,4,5], "id": "a\\u0000"}', 422, "control character"),
        (b'{"features": [1,2,3,4,5], "id": "\\ud800"}', 422, "not valid Unicode"),
        (b'{"features": {"form": 1}}', 422, "The model has no feature form."),
        (b'{"features": [null,null,null,null,null]}', 422, "Every feature is missing"),
        (b'{"text": "how?"}', 422, "reads no text"),
    ],
)
def test_what_cannot_be_used_is_named_and_logs_nothing(
    quiet: Hosted, body: bytes, status: int, words: str
) -> None:
    reply = quiet.post("/v1/predict", body)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert words in reply.json["detail"]
    assert reply.json["status"] == status
    log = EventCsv(quiet.service.logger.csv.path)
    assert [rows for rows, _ in log.rows_from(0) if rows] == []


def test_nesting_of_no_depth_is_a_fault_of_ours(quiet: Hosted) -> None:
    bodies = [b'{"features": [' + b"[" * n + b"]" * n + b",1,1,1,1]}" for n in range(880, 1010, 2)]
    found = {quiet.post("/v1/predict", body).status for body in bodies}
    assert found == {400, 422}


def test_an_outcome_that_contradicts_is_refused_until_it_corrects(served: Hosted) -> None:
    event = served.predict(entity_id="m1")["event_id"]
    tell = {"event_id": event, "actual_result": "H"}
    assert served.post("/v1/outcome", {**tell, "evaluated_at": "2062-01-01"}).status == 422
    assert served.post("/v1/outcome", {**tell, "actual_result": "banana"}).status == 409
    assert served.post("/v1/outcome", tell).json["recorded"] == 1
    assert served.post("/v1/outcome", tell).json["already_known"] == 1
    refused = served.post("/v1/outcome", {**tell, "actual_result": "A"})
    assert (refused.status, refused.json["refused"][0]["stands"]) == (409, "H")
    assert '"correct": true' in refused.json["hint"]
    corrected = served.post("/v1/outcome", {**tell, "actual_result": "A", "correct": True})
    assert corrected.json["corrected"] == 1
    unknown = served.post("/v1/outcome", {"event_id": "nobody", "actual_result": "A"})
    assert (unknown.status, unknown.json["unknown"][0]["event_id"]) == (404, "nobody")
    both = {"outcomes": [{"id": "m1", "actual_result": "A"}, {"id": "no", "actual_result": "A"}]}
    mixed = served.post("/v1/outcome", both)
    assert (mixed.status, mixed.json["already_known"]) == (404, 1)


@pytest.mark.parametrize("text", ["\n", "a\0b", "\ud800"])
def test_what_no_event_and_no_label_can_be_called_is_refused(quiet: Hosted, text: str) -> None:
    outcome, label = {"event_id": "e", "actual_result": "H"}, {"features": BY_NAME, "label": "H"}
    told = [quiet.post("/v1/outcome", {**outcome, name: text}) for name in ("event_id", "id")]
    given = [quiet.post("/v1/labels", {**label, name: text}) for name in ("id", "label", "source")]
    assert [reply.status for reply in (*told, *given)] == [422] * 5


# --------------------------------------------------------------------------------- who asks


@pytest.mark.usefixtures("store")
def test_nothing_is_said_without_the_token_and_guesses_are_limited(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        hosting.hosting(local_dir="store", proxies=Proxies(trusted=1)) as hosted,
        caplog.at_level(logging.WARNING, "serve"),
    ):
        here, there = {"X_Forwarded_For": "10.0.0.1"}, {"X_Forwarded_For": "10.0.0.2"}
        asked = hosted.get("/v1/model", Authorization="", **here)
        assert (asked.status, asked.headers["www-authenticate"]) == (401, "Bearer")
        guess = {"Authorization": "Bearer guess"}
        codes = [hosted.get("/v1/model", **guess, **here).status for _ in range(12)]
        assert codes == [401] * 10 + [429] * 2
        late = hosted.get("/v1/model", **here)
        assert late.status == 429
        assert 0 < int(late.headers["retry-after"]) <= 60
        assert hosted.get("/v1/model", **there).status == 200
        # Who has shown the token is not locked out by others behind the same address.
        codes = [hosted.get("/v1/model", **guess, **there).status for _ in range(12)]
        assert codes == [401] * 12
        assert hosted.get("/v1/model", **there).status == 200
        assert hosted.get("/health", Authorization="", **here).json == {
            "status": "ok", "warnings": 0, "store": "ok",
        }  # fmt: skip
        assert "guess" not in caplog.text
        assert sum("10.0.0.1" in record.getMessage() for record in caplog.records) == 10


@pytest.mark.usefixtures("store")
def test_beyond_loopback_a_token_has_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serve.main(["--local", "store", "--host", "0.0.0.0"]) == 1  # noqa: S104
    monkeypatch.setenv("ML_PIPELINE_SERVE_TOKEN", "short")
    assert serve.main(["--local", "store"]) == 1


@pytest.mark.usefixtures("store")
def test_it_stands_under_a_path_and_other_paths_and_methods_are_named() -> None:
    proxies = Proxies(base_path="/ml", trusted=1)
    with hosting.hosting(local_dir="store", proxies=proxies) as hosted:
        assert hosted.predict()["model_id"] == "first"
        assert hosted.get("/openapi.json").json["servers"] == [{"url": "/ml"}]
        assert hosted.get("/v1/predict").headers["allow"] == "POST"
        nowhere = hosted.get("/v1/nowhere")
        assert (nowhere.status, "/v1/predict" in nowhere.json["hint"]) == (404, True)


# ---------------------------------------------------------------------------- the model changes


def test_each_answer_is_of_one_model_whole_while_another_is_promoted(
    served: Hosted, store: LocalStore, first_model: FirstModel, tmp_path: Path
) -> None:
    second = hosting.turned_model()
    expected = {
        "first": hosting.said(first_model.model, ROW), "second": hosting.said(second, ROW),
    }  # fmt: skip
    found: list[dict[str, Any]] = []

    def ask(_: int) -> None:
        until_both = time.monotonic() + 10
        while time.monotonic() < until_both:
            found.append(served.predict())
            if found[-1]["model_id"] == "second":
                return

    with ThreadPoolExecutor(50) as callers:
        asked = [callers.submit(ask, n) for n in range(50)]
        until(lambda: len(found) > 50)
        hosting.promote(store, second, tmp_path, "second")
        for one in asked:
            one.result()
    assert {answer["model_id"] for answer in found} == {"first", "second"}
    for answer in found:
        said = expected[answer["model_id"]]
        assert list(answer["probabilities"].values()) == pytest.approx(said, abs=1e-9)
    ids = [answer["event_id"] for answer in found]
    until(lambda: len(rows_of(store, *ids)) == len(ids))
    logged = {row["event_id"]: row["model_id"] for row in rows_of(store, *ids)}
    assert logged == {answer["event_id"]: answer["model_id"] for answer in found}


def test_a_damaged_champion_is_not_taken_up_and_health_and_log_say_so(
    served: Hosted,
    store: LocalStore,
    first_model: FirstModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def spoil(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-1] + b"?")

    hosting.promote(store, first_model.model, tmp_path, "damaged", spoil=spoil)
    until(lambda: served.predict()["model_id"] and served.get("/health").json["warnings"])
    health = served.get("/health").json
    assert (health["status"], health["model_id"]) == ("degraded", "first")
    assert "first goes on answering" in health["warnings"][0]
    assert served.get("/health", Authorization="").json["status"] == "degraded"
    assert "first goes on answering" in served.predict()["warnings"][0]
    assert "first goes on answering" in caplog.text
    hosting.promote(store, first_model.model, tmp_path, "repaired")
    until(lambda: served.predict()["model_id"] == "repaired")
    assert served.get("/health").json["status"] == "ok"


def test_without_a_model_it_waits_for_one(
    tmp_path: Path, first_model: FirstModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with hosting.hosting(local_dir=tmp_path / "store") as hosted:
        asked = hosted.post("/v1/predict", {"features": ROW})
        assert (asked.status, asked.headers["retry-after"]) == (503, "5")
        assert "No model serves default yet" in asked.json["detail"]
        assert (hosted.get("/ready").status, hosted.get("/health").json["status"]) == (
            503, "failed",
        )  # fmt: skip
        store = LocalStore.open(tmp_path / "store")
        hosting.promote(store, first_model.model, tmp_path, "first")
        until(lambda: hosted.get("/ready").status == 200)
        assert hosted.predict()["model_id"] == "first"


# --------------------------------------------------------------------------- the log and its end


def check_what_waits_is_delivered_once(
    hosted: Hosted,
    store: Any,  # noqa: ANN401 - a Store
    leave: Callable[[], None],
    come_back: Callable[[], None],
    count: int,
) -> None:
    """Predict while the store is away; afterwards it has each event once."""
    assert hosted.predict()["model_id"] == "first"
    leave()
    ids = [hosted.predict(entity_id=f"m{n}")["event_id"] for n in range(count)]
    until(lambda: hosted.get("/health").json["store"] == "away", seconds=60)
    health = hosted.get("/health").json
    assert (health["status"], health["waiting_bytes"] > 0) == ("degraded", True)
    waiting = hosted.post("/v1/outcome", {"event_id": ids[0], "actual_result": "H"})
    come_back()
    until(lambda: hosted.get("/health").json["waiting_bytes"] == 0, seconds=60)
    found = rows_of(store, *ids)
    assert Counter(row["event_id"] for row in found) == Counter(ids)
    outcomes = [row["actual_result"] for row in found if row["event_id"] == ids[0]]
    assert (waiting.status, waiting.json["status"], outcomes) == (202, "waiting", ["H"])
    # Which model serves is asked once a second, and on its own.
    until(lambda: hosted.get("/health").json["status"] == "ok", seconds=60)


def test_while_the_store_is_away_events_wait_and_are_delivered_once(
    served: Hosted, store: LocalStore, tmp_path: Path
) -> None:
    database = tmp_path / "store" / "store.db"

    def leave() -> None:
        database.rename(tmp_path / "elsewhere.db")

    def come_back() -> None:
        (tmp_path / "elsewhere.db").rename(database)

    check_what_waits_is_delivered_once(served, store, leave, come_back, 10)


@pytest.mark.long
@pytest.mark.parametrize("place", ["supabase"], indirect=True)
@pytest.mark.parametrize("status", [502, 401])
def test_while_a_project_is_away_events_wait_and_are_delivered_once(
    here: Place, status: int, first_model: FirstModel, tmp_path: Path
) -> None:
    assert here.project is not None
    gateway = here.project.gateway

    def leave() -> None:
        gateway.fault(faults.status(status), times=100_000)

    with here.opened() as store:
        hosting.promote(store, first_model.model, tmp_path, "first")
        with hosting.hosting() as hosted:
            check_what_waits_is_delivered_once(hosted, store, leave, gateway.reset, 500)


def test_an_answer_that_cannot_be_logged_is_not_given(served: Hosted) -> None:
    served.predict()
    log = Path(served.service.logger.csv.path)
    log.rename(log.with_suffix(".away"))
    log.mkdir()
    refused = served.post("/v1/predict", {"features": ROW})
    assert (refused.status, "retry-after" in refused.headers) == (503, True)
    assert served.predict(log=False)["model_id"] == "first"
    log.rmdir()
    log.with_suffix(".away").rename(log)
    assert served.predict()["model_id"] == "first"


def test_bodies_that_are_too_large_are_refused_before_they_are_sent(quiet: Hosted) -> None:
    large = json.dumps({"features": dict.fromkeys(NAMES, "x" * 1000000)}).encode()
    assert len(large) > 5_000_000
    with socket.create_connection(("127.0.0.1", quiet.port), timeout=10) as caller:
        head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(large)}\r\n\r\n"
        caller.sendall(head.encode())
        answer = b""
        while piece := caller.recv(4096):
            answer += piece
    head_text, _, body = answer.partition(b"\r\n\r\n")
    assert b" 413 " in head_text
    assert b"application/problem+json" in head_text
    assert json.loads(body)["status"] == 413


@pytest.mark.parametrize("count", long_but([200], [200, 1000]))
def test_connections_that_say_nothing_keep_nobody_out(served: Hosted, count: int) -> None:
    callers = []
    try:
        for _ in range(count):
            callers.append(socket.create_connection(("127.0.0.1", served.port), timeout=10))
            callers[-1].sendall(b"POST /v1/predict HTTP/1.1\r\nHost:")
        assert served.predict()["model_id"] == "first"
    finally:
        for caller in callers:
            caller.close()


@pytest.mark.usefixtures("store")
def test_a_request_that_does_not_become_whole_is_closed() -> None:
    with hosting.hosting(local_dir="store", request_s=0.2) as hosted:
        head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
        with socket.create_connection(("127.0.0.1", hosted.port), timeout=10) as caller:
            for piece in (head[:20], head[20:], b"{"):
                caller.sendall(piece)
                time.sleep(0.05)
            assert caller.recv(100) == b""
        assert hosted.predict()["model_id"] == "first"


def test_what_waited_when_it_ended_is_sent_by_the_next_one(
    store: LocalStore, tmp_path: Path
) -> None:
    database = tmp_path / "store" / "store.db"
    with hosting.hosting(local_dir="store") as hosted:
        hosted.predict()
        database.rename(tmp_path / "elsewhere.db")
        ids = [hosted.predict()["event_id"] for _ in range(5)]
        until(lambda: hosted.get("/health").json["store"] == "away")
    (tmp_path / "elsewhere.db").rename(database)
    with hosting.hosting(local_dir="store"):
        until(lambda: len(rows_of(store, *ids)) == 5)


def check_it_ends_after_what_was_asked(port: int, token: str, end: Callable[[], None]) -> str:
    """What has begun to come is answered, an idle connection closed; returns the event."""
    body = json.dumps({"features": ROW}).encode()
    head = (
        "POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as caller,
        socket.create_connection(("127.0.0.1", port), timeout=10) as idle,
    ):
        caller.sendall(head + body[:5])
        idle.sendall(head + body)
        found = b""
        while not found.endswith(b"}"):
            found += idle.recv(65536)
        assert b" 200 OK" in found
        end()
        assert idle.recv(65536) == b""
        caller.sendall(body[5:])
        answer = b""
        while piece := caller.recv(65536):
            answer += piece
    assert b" 200 OK" in answer
    assert b"Connection: close" in answer
    event: str = json.loads(answer.partition(b"\r\n\r\n")[2])["event_id"]
    return event


def test_it_ends_after_what_was_asked(store: LocalStore) -> None:
    with hosting.hosting(local_dir="store") as hosted:
        event = check_it_ends_after_what_was_asked(hosted.port, TOKEN, hosted.stop)
    assert len(rows_of(store, event)) == 1


def test_everybody_who_has_connected_when_it_ends_is_answered() -> None:
    def answer(_: object, start: Any) -> list[bytes]:  # noqa: ANN401 - of WSGI
        start("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    server = Server(answer, host="127.0.0.1", port=0)
    callers = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(20)]
    for caller in callers:
        caller.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.stop()
    server.run()
    assert [caller.recv(12) for caller in callers] == [b"HTTP/1.1 200"] * 20
    for caller in callers:
        caller.close()


@pytest.mark.long
def test_a_signal_ends_it_after_what_was_asked(store: LocalStore, tmp_path: Path) -> None:
    command = [PYTHON, "-m", "ml_pipeline", "serve", "--local", "store", "--port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        printed = json.loads(process.stdout.readline())
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(.+)", printed["url"])
        assert found is not None
        event = check_it_ends_after_what_was_asked(
            int(found[1]), found[2], lambda: process.send_signal(signal.SIGTERM)
        )
        assert process.wait(20) == 0, process.stderr and process.stderr.read()
    assert len(rows_of(store, event)) == 1


def test_an_address_that_is_taken_is_named(quiet: Hosted) -> None:
    with pytest.raises(ConfigError, match="cannot be listened on"):
        Server(lambda _environ, _start: [], host="127.0.0.1", port=quiet.port)


def test_what_the_header_says_is_what_is_meant(quiet: Hosted) -> None:
    assert BEARER["Authorization"].endswith(TOKEN)
    assert quiet.get("/v1/model", Authorization="Basic x").status == 401
    assert quiet.get(f"/?token={TOKEN.replace(' ', '%20')}", Authorization="").status == 200
