"""People are notified of an alert's changes of state, each once, on every channel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ml_pipeline.config.environment import load_notify_settings
from ml_pipeline.decay.notify import channels_for, deliver, message_of, state_of
from ml_pipeline.errors import ConfigError
from ml_pipeline.store.alerts import ActionState, AlertStatus, DecayAlert
from ml_pipeline.store.embedded.store import LocalStore
from tests.support.factories import MODEL_NAME, NOW, make_alert, make_id
from tests.support.passing_alerts import came_and_went

HOUR = timedelta(hours=1)
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


class Listener:
    """A web server that keeps what it was sent; GitHub's issues and a webhook in one."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, Any]] = []
        self.issues: list[dict[str, Any]] = []
        self.status = 200
        self.status_of: dict[str, int] = {}
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                listener.got.append((self.command, self.path, body))
                text = json.dumps(listener.reply(self.command, self.path, body)).encode()
                self.send_response(listener.status_of.get(self.command, listener.status))
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PATCH = answer  # noqa: N815 - the base class's names

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"

    def reply(self, method: str, path: str, body: Any) -> Any:  # noqa: ANN401 - JSON
        if method == "GET":
            return self.issues
        if path.endswith("/issues"):
            self.issues.append({"number": 40 + len(self.issues), "body": body["body"]})
            return self.issues[-1]
        return {}

    def asked(self) -> list[tuple[str, str]]:
        return [(method, path.partition("?")[0]) for method, path, _ in self.got]


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    thread = Thread(target=listener.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        listener.server.shutdown()
        listener.server.server_close()
        thread.join()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore.open(tmp_path / "store")


def send(store: LocalStore, **environment: str) -> int:
    channels = channels_for(load_notify_settings(environment))
    return deliver(store, channels, model_name=MODEL_NAME, now=NOW + HOUR)


def current(store: LocalStore) -> DecayAlert:
    return store.list_alerts(model_name=MODEL_NAME)[0]


def change(store: LocalStore, **changes: Any) -> None:  # noqa: ANN401 - fields
    alert = current(store)
    store.change_alert(
        replace(alert, updated_at=alert.updated_at + HOUR, **changes), seen=alert.updated_at
    )


def test_a_webhook_hears_of_each_change_of_state_once(
    store: LocalStore, listener: Listener
) -> None:
    url = {"ML_PIPELINE_NOTIFY_URLS": f"json://{listener.address}/hook"}
    assert send(store, **url) == 0
    store.open_alert(make_alert())
    assert [send(store, **url) for _ in range(3)] == [1, 0, 0]
    change(store, attempts=1, acted_at=NOW, action="request", action_state=ActionState.SUCCEEDED)
    assert send(store, **url) == 0
    change(store, needs_person=True, fruitless=3)
    assert [send(store, **url) for _ in range(2)] == [1, 0]
    change(store, status=AlertStatus.RESOLVED, resolved_at=NOW + HOUR)
    assert [send(store, **url) for _ in range(2)] == [1, 0]
    titles = [body["title"] for _, _, body in listener.got]
    assert titles == [
        "football has decayed (warning)",
        "football has decayed (warning): a person is needed",
        "The decay of football is over",
    ]
    assert "150 new rows against 1,400 before" in listener.got[0][2]["message"]


def test_the_end_of_an_alert_is_told_whatever_came_and_went_since(
    store: LocalStore, listener: Listener
) -> None:
    url = {"ML_PIPELINE_NOTIFY_URLS": f"json://{listener.address}/hook"}
    store.open_alert(make_alert())
    assert send(store, **url) == 1
    came_and_went(store, 25, NOW + HOUR)
    told = next(it for it in store.list_alerts(model_name=MODEL_NAME) if it.status.is_open)
    over = replace(
        told, status=AlertStatus.RESOLVED, updated_at=NOW + 2 * HOUR, resolved_at=NOW + 2 * HOUR
    )
    store.change_alert(over, seen=told.updated_at)
    assert [send(store, **url) for _ in range(2)] == [1, 0]


def test_what_could_not_be_sent_is_sent_by_the_next_check(
    store: LocalStore, listener: Listener
) -> None:
    store.open_alert(make_alert())
    url = {"ML_PIPELINE_NOTIFY_URLS": f"json://{listener.address}/hook"}
    listener.status = 500
    assert send(store, **url) == 0
    listener.status = 200
    assert [send(store, **url) for _ in range(2)] == [1, 0]


def test_o1_one_broken_address_neither_repeats_nor_silences_the_others(
    store: LocalStore, listener: Listener
) -> None:
    store.open_alert(make_alert())
    healthy, other = (f"json://{listener.address}/{name}" for name in ("one", "other"))
    broken = "json://127.0.0.1:9/nobody"
    urls = {"ML_PIPELINE_NOTIFY_URLS": f"{healthy} {broken} {other}"}
    assert [send(store, **urls) for _ in range(3)] == [2, 0, 0]
    change(store, status=AlertStatus.RESOLVED, resolved_at=NOW + HOUR)
    # The order of the list is nobody's promise.
    moved = {"ML_PIPELINE_NOTIFY_URLS": f"{other} {healthy} {broken}"}
    assert [send(store, **moved) for _ in range(3)] == [2, 0, 0]
    heard = [(path, body["title"]) for _, path, body in listener.got]
    assert sorted(heard) == [
        ("/one", "The decay of football is over"),
        ("/one", "football has decayed (warning)"),
        ("/other", "The decay of football is over"),
        ("/other", "football has decayed (warning)"),
    ]


def test_o1_an_alert_of_a_former_version_is_not_sent_again(
    store: LocalStore, listener: Listener
) -> None:
    store.open_alert(make_alert())
    url = {"ML_PIPELINE_NOTIFY_URLS": f"json://{listener.address}/hook"}
    known = {"told": {"apprise": state_of(current(store))}}
    change(store, details={**current(store).details, **known})
    assert send(store, **url) == 0
    change(store, status=AlertStatus.RESOLVED, resolved_at=NOW + HOUR)
    assert [send(store, **url) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("mailto://u:p@example.com?to=a@x.test", "mailto://u:p@example.com?to=b@x.test"),
        ("tgram://123456789:abcdefg_hijklmnop/11", "tgram://123456789:abcdefg_hijklmnop/22"),
    ],
)
def test_o1_two_that_are_written_to_through_one_account_are_told_apart(one: str, two: str) -> None:
    def names(*urls: str) -> list[str]:
        variables = {"ML_PIPELINE_NOTIFY_URLS": " ".join(urls)}
        return [channel.name for channel in channels_for(load_notify_settings(variables))]

    assert len({*names(one, two)}) == 2
    assert names(two, one) == [*reversed(names(one, two))]
    assert not any("123456789" in name or "example" in name for name in names(one, two))


def test_an_alert_that_ended_before_anybody_listened_is_no_news(
    store: LocalStore, listener: Listener
) -> None:
    store.open_alert(make_alert())
    change(store, status=AlertStatus.RESOLVED, resolved_at=NOW + HOUR)
    assert send(store, ML_PIPELINE_NOTIFY_URLS=f"json://{listener.address}/") == 0


def test_the_text_says_what_since_when_by_how_much_on_how_many_rows_and_what_next() -> None:
    queued = make_alert(
        status=AlertStatus.TRIGGERED, action="request", action_state=ActionState.TRIGGERED,
        request_id=make_id(5), baseline=0.75, recent=0.6,
    )  # fmt: skip
    text = message_of(queued).text
    for words in (
        "What happened: accuracy fell", "Since: 2026-03-11", "0.750 → 0.600 (-0.150)",
        "150 new rows against 1,400 before", f"a retraining is queued (request {make_id(5)})",
    ):  # fmt: skip
        assert words in text
    failed = replace(queued, action="command", action_state=ActionState.FAILED,
                     details={"exit_code": 3})  # fmt: skip
    assert "the command failed (exit code 3)" in message_of(failed).text
    assert "a person decides" in message_of(make_alert()).text


def test_on_github_the_summary_and_one_issue_follow_an_alert(
    store: LocalStore, listener: Listener, tmp_path: Path
) -> None:
    variables = {
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_TOKEN": "secret-token",
        "GITHUB_API_URL": f"http://{listener.address}",
    }
    store.open_alert(make_alert())
    assert [send(store, **variables) for _ in range(2)] == [2, 0]
    issues = "/repos/o/r/issues"
    assert listener.asked() == [("GET", issues), ("POST", issues)]
    assert current(store).details["github_issue"] == 40
    change(store, status=AlertStatus.RESOLVED, resolved_at=NOW + HOUR)
    assert send(store, **variables) == 2
    assert listener.asked()[2:] == [("PATCH", f"{issues}/40"), ("POST", f"{issues}/40/comments")]
    assert listener.got[-2][2] == {"state": "closed"}
    summary = (tmp_path / "summary.md").read_text()
    assert "## football has decayed (warning)\n" in summary
    assert "## The decay of football is over\n" in summary


def test_s2_issue_and_summary_quote_neither_a_row_nor_the_command(
    store: LocalStore, listener: Listener, tmp_path: Path
) -> None:
    variables = {
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_TOKEN": "secret-token",
        "GITHUB_API_URL": f"http://{listener.address}",
    }
    row = "Failed while loading: a text of a row"
    failed = make_alert(action="request", action_state=ActionState.FAILED,
                        details={"settled_because": row})  # fmt: skip
    store.open_alert(failed)
    assert send(store, **variables) == 2
    assert row in message_of(failed).text
    shown = (tmp_path / "summary.md").read_text() + str(listener.got)
    assert "the retraining failed; it will be tried again" in shown
    assert row not in shown
    ran = make_alert(action="command", details={"command": ["deploy", "--token", "x1"]})
    assert "x1" in message_of(ran).text
    assert "x1" not in message_of(ran, quotes=False).text


def test_an_issue_whose_number_was_lost_is_found_and_not_opened_twice(
    store: LocalStore, listener: Listener
) -> None:
    listener.issues = [{"number": 7, "body": f"x <!-- ml-pipeline alert {make_id(1)} -->"}]
    store.open_alert(make_alert())
    variables = {"GITHUB_REPOSITORY": "o/r", "GITHUB_TOKEN": "secret-token",
                 "GITHUB_API_URL": f"http://{listener.address}"}  # fmt: skip
    assert send(store, **variables) == 1
    assert listener.asked()[-1] == ("POST", "/repos/o/r/issues/7/comments")


def test_o1_an_issue_that_cannot_be_closed_is_not_commented_on_each_time(
    store: LocalStore, listener: Listener
) -> None:
    github = {
        "GITHUB_API_URL": f"http://{listener.address}",
        "GITHUB_REPOSITORY": "our/app",
        "GITHUB_TOKEN": "ghs_secret",
    }
    store.open_alert(make_alert())
    send(store, **github)
    change(store, status=AlertStatus.RESOLVED, resolved_at=NOW + HOUR)
    listener.status_of = {"PATCH": 500}
    assert [send(store, **github) for _ in range(2)] == [0, 0]
    listener.status_of = {}
    assert [send(store, **github) for _ in range(2)] == [1, 0]
    comments = [path for method, path in listener.asked() if path.endswith("/comments")]
    assert len(comments) == 1


def test_a_refused_issue_is_sent_later_and_shows_no_secret(
    store: LocalStore, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    store.open_alert(make_alert())
    listener.status = 403
    variables = {"GITHUB_REPOSITORY": "o/r", "GITHUB_TOKEN": "secret-token",
                 "GITHUB_API_URL": f"http://{listener.address}"}  # fmt: skip
    assert send(store, **variables) == 0
    assert "issues: write" in caplog.text
    assert "secret-token" not in caplog.text
    assert "secret-token" not in repr(load_notify_settings(variables))


def test_an_url_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as refused:
        channels_for(load_notify_settings({"ML_PIPELINE_NOTIFY_URLS": "nonsense-secret"}))
    assert "nonsense-secret" not in str(refused.value)
