"""What the doctor says of the repository whose workflow it runs in."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ml_pipeline.commands.checks.repository import repository

NAME = "team/models"


@pytest.fixture
def api() -> Iterator[tuple[str, dict[str, tuple[int, bytes]]]]:
    """GitHub's API, and what it answers by path."""
    answers: dict[str, tuple[int, bytes]] = {}

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert "Authorization" not in self.headers
            status, body = answers.get(self.path, (404, b"{}"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()


def told(event: object, folder: Path, **more: str) -> Mapping[str, str]:
    (folder / "event.json").write_text(json.dumps(event))
    path = str(folder / "event.json")
    return {"GITHUB_REPOSITORY": NAME, "GITHUB_EVENT_PATH": path, **more}


@pytest.mark.parametrize("is_private", [True, False])
def test_s2_the_doctor_warns_of_a_public_repository_that_the_event_names(
    tmp_path: Path, *, is_private: bool
) -> None:
    found = repository(told({"repository": {"private": is_private}}, tmp_path))
    assert found is not None
    assert (found.severity, found.ok) == (("info", True) if is_private else ("warning", False))
    if not is_private:
        assert found.what.startswith(f"The repository {NAME} is public: everyone reads")
        assert "keep_rows" in found.do


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b'{"private": false}', f"{NAME} is public"),
        (200, b'{"private": true}', f"{NAME} is not public"),
        (404, b"{}", f"{NAME} is not public"),
        (403, b"{}", "not known whether"),
        (200, b"<html>", "not known whether"),
    ],
)
def test_s2_the_api_is_asked_when_the_event_does_not_say(
    tmp_path: Path,
    api: tuple[str, dict[str, tuple[int, bytes]]],
    status: int,
    body: bytes,
    words: str,
) -> None:
    address, answers = api
    answers[f"/repos/{NAME}"] = status, body
    found = repository(told({"schedule": "0 2 * * *"}, tmp_path, GITHUB_API_URL=address))
    assert found is not None
    assert words in found.what


def test_nothing_is_asked_outside_of_a_workflow() -> None:
    assert repository({}) is None
    unreachable = {"GITHUB_REPOSITORY": NAME, "GITHUB_API_URL": "http://127.0.0.1:1"}
    found = repository(unreachable)
    assert found is not None
    assert found.severity == "warning"
