"""Lists of runs and models: what is found, what is compared, and when a model answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import RUN_MANIFEST, ModelState, Outcome
from ml_pipeline.web.app import create_app
from ml_pipeline.web.guard import Guard
from tests.support import league
from tests.support.factories import (
    NOW,
    make_day,
    make_finished_run,
    make_id,
    make_model,
    make_promotion,
    make_run,
)

NAME = "default"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    opened = LocalStore.open(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def client(store: LocalStore) -> FlaskClient:
    return client_of(store)


def client_of(store: LocalStore) -> FlaskClient:
    """A page that has read nothing yet: one shows for a second what it has read."""
    app = create_app(
        store, league.settings_for(), Guard.for_host("::1", None), clock=lambda: NOW,
        new_id=league.ids(),
    )  # fmt: skip
    return app.test_client()


def end_run(store: LocalStore, number: int, **changes: Any) -> None:  # noqa: ANN401 - of a run
    at = {"model_name": NAME, "started_at": NOW - timedelta(days=number)}
    store.start_run(make_run(number, **at))
    store.finish_run(make_finished_run(number, **at | changes))


def shown(client: FlaskClient, path: str) -> str:
    answer = client.get(path, base_url="http://localhost")
    assert answer.status_code == 200, answer.text
    return answer.text


def rows_of(page: str) -> list[str]:
    """The rows of the tables' bodies as text."""
    bodies = "".join(re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL))
    return [
        " ".join(unescape(re.sub(r"<[^>]+>", " ", row)).split())
        for row in re.findall(r"<tr>(.*?)</tr>", bodies, re.DOTALL)
    ]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", [1, 2, 3]),
        ("?outcome=rejected", [2]),
        ("?outcome=promoted&q=Lost", []),
        ("?q=lost+too+much", [2]),
        ("?q=LOST", [2]),
        ("?q=m-new", [1, 2]),
        (f"?q={make_id(3)}", [3]),
        ("?q=%3Cscript%3E", []),
        ("?outcome=no+such+outcome", []),
    ],
)
def test_runs_are_found_by_their_outcome_and_by_a_text(
    store: LocalStore, client: FlaskClient, asked: str, found: list[int]
) -> None:
    end_run(store, 3, challenger_id="another", outcome=Outcome.SKIPPED_NO_NEW_DATA)
    end_run(store, 2, outcome=Outcome.REJECTED, outcome_reason="It lost too much.")
    end_run(store, 1)
    page = shown(client, f"/runs{asked}")
    linked = re.findall(r'href="/runs/([0-9a-f-]{36})"', page)
    assert linked == [make_id(number) for number in found]
    assert f"{len(found)} of 3 runs" in page
    assert ("No run is like that" in page) == (not found)
    assert "<script>" not in page


def test_models_stand_under_their_base_with_when_they_answered(
    store: LocalStore, client: FlaskClient
) -> None:
    for number, (model_id, base) in enumerate([("a", "a"), ("a-1", "a"), ("a-2", "a"), ("b", "b")]):
        at = NOW - timedelta(days=9 - number)
        store.register(
            make_model(model_id, model_name=NAME, anchor_id=base, created_at=at,
                       parent_id=None if model_id == base else "a")
        )  # fmt: skip
        if model_id != "b":
            before = {"a": None, "a-1": "a", "a-2": "a-1"}[model_id]
            store.promote(
                make_promotion(model_id, before, number + 1, model_name=NAME, created_at=at)
            )
    page = shown(client, "/models")
    assert re.findall(r'<h2 id="base-\d">([^<]+)<', page) == ["b", "a"]
    rows = rows_of(page)
    assert [row.split()[0] for row in rows] == ["b", "a-2", "a-1", "a"]
    assert ["2026-03-0" in row for row in rows] == [True] * 4
    assert "since 2026-03-07" in rows[1]
    assert "2026-03-06 to 2026-03-07" in rows[2]
    assert "since" not in rows[0]
    assert rows[0].endswith("Compare")
    assert not rows[1].endswith("Compare"), "the champion is what the others are compared with"


def test_two_models_are_compared_on_the_same_results_where_a_run_did(
    store: LocalStore, client: FlaskClient
) -> None:
    store.register(make_model("old", model_name=NAME, metrics={"accuracy": 0.9}))
    made_of = {"champion": {"model_id": "old", "digest": "sha256:0"}}
    end_run(
        store, 1, challenger_id="new", metrics={"accuracy": 0.75, "log_loss": 0.5},
        details={
            RUN_MANIFEST: made_of, "holdout_rows": 160,
            "champion_metrics": {"accuracy": 0.7, "log_loss": 0.4},
        },
    )  # fmt: skip
    store.register(
        make_model("new", model_name=NAME, run_id=make_id(1), metrics={"accuracy": 0.75})
    )
    store.keep_days([make_day(n, model_name=NAME, model_id="old") for n in (1, 2)], now=NOW)
    page = shown(client, "/models/compare?a=old&b=new")
    assert "Both on the same 160 results" in page
    assert rows_of(page)[:2] == ["accuracy 0.7000 0.7500", "log loss 0.4000 0.5000"]
    assert re.findall(r'class="n best">([\d.]+)', page) == ["0.7500", "0.4000"]
    turned = shown(client, "/models/compare?a=new&b=old")
    assert rows_of(turned)[:2] == ["accuracy 0.7500 0.7000", "log loss 0.5000 0.4000"]
    assert re.findall(r'class="n best">([\d.]+)', turned) == ["0.7500", "0.4000"]
    assert "old 73.7 %" in page
    # What no run compared is not called better.
    store.register(make_model("third", model_name=NAME, metrics={"accuracy": 0.99}))
    apart = shown(client, "/models/compare?a=old&b=third")
    assert "ml-pipeline models compare old third" in apart
    assert "n best" not in apart


def test_a_model_that_is_not_there_is_named(store: LocalStore, client: FlaskClient) -> None:
    store.register(make_model("old", model_name=NAME, state=ModelState.CANDIDATE))
    answer = client.get("/models/compare?a=old&b=gone", base_url="http://localhost")
    assert (answer.status_code, "gone" in answer.text) == (404, True)


@pytest.mark.parametrize("path", ["/", "/runs", "/models", "/models/compare"])
def test_an_empty_store_says_the_next_step(client: FlaskClient, path: str) -> None:
    assert "<code>ml-pipeline " in shown(client, path)
    assert client.get("/models/compare?a=x&b=y", base_url="http://localhost").status_code in {
        200, 404,
    }  # fmt: skip


def test_a_page_that_has_not_changed_is_not_sent_again(
    store: LocalStore, client: FlaskClient
) -> None:
    end_run(store, 1)
    first = client.get("/", base_url="http://localhost")
    known = {"If-None-Match": first.headers["ETag"]}
    again = client.get("/", base_url="http://localhost", headers=known)
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"] == "no-store"
    end_run(store, 2)
    client.application.extensions["services"].overviews.forget()
    changed = client.get("/", base_url="http://localhost", headers=known)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]


def test_a_run_that_goes_on_is_not_said_to_have_compared_nothing(
    store: LocalStore,
) -> None:
    kept = {"at": NOW.isoformat(), "inputs": [
        {"column": "age", "psi": 0.3, "noise": 0.01, "rows": 50, "reference_rows": 900}
    ]}  # fmt: skip
    end_run(store, 2, details={"drift": kept})
    store.start_run(make_run(1, model_name=NAME, started_at=NOW - timedelta(minutes=1)))
    page = shown(client_of(store), "/")
    assert "It has not compared models yet." in page
    assert "age has shifted much" in page
    at = NOW - timedelta(minutes=1)
    ended = make_finished_run(1, model_name=NAME, started_at=at, details={}, metrics={})
    store.finish_run(ended)
    page = shown(client_of(store), "/")
    assert ("It has not compared" in page, "compared no models" in page) == (False, True)
    assert "age has shifted much" in page
