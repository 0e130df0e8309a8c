"""What the doctor says of a monitoring page that is served on this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ml_pipeline.commands.checks.page import page
from ml_pipeline.config.settings import Settings
from ml_pipeline.store.embedded.store import LocalStore
from tests.support.monitoring import TOKEN, serving


@pytest.mark.parametrize("token", [TOKEN, None])
def test_a_page_that_asks_for_no_token_is_warned_of(tmp_path: Path, token: str | None) -> None:
    store = LocalStore.open(tmp_path / "store")
    with serving(store, Settings(), token=token) as served:
        found = page(served.port)
    store.close()
    assert (found.name, found.ok) == ("monitor_page", token is not None)
    if token is None:
        assert found.severity == "warning"
        assert f"http://127.0.0.1:{served.port}/ asks for no token" in found.what


@pytest.mark.parametrize("what", ["MONITOR", "SERVE"])
def test_a_token_that_can_be_guessed_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv(f"ML_PIPELINE_{what}_TOKEN", "hunter2")
    found = page(1)
    assert (found.name, found.severity) == ("monitor_page", "warning")
    assert "hunter2" not in found.what + found.do


def test_nothing_is_said_against_a_port_on_which_no_page_is() -> None:
    assert page(1).ok
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.listen(1)
        assert page(silent.getsockname()[1]).ok
