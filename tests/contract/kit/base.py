"""What every part of the conformance kit uses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import LookbackWindow
from tests.support.factories import (
    NOW,
)

OpenStore = Callable[[], Store]
Call = Callable[[], object]

RACERS = 6
EVER = LookbackWindow(start=NOW - timedelta(days=3650), end=NOW + timedelta(days=3650))
AWKWARD = "Ünïcode 日本 \U0001f680\nnew line\t'single' \"double\" \\back; DROP TABLE x; --%_"


def race(open_store: OpenStore, action: Callable[[Store, int], Any]) -> list[Any]:
    """What each of `RACERS` handles got from `action` at the same moment: a value or an error."""
    start = Barrier(RACERS)

    def runner(number: int) -> Any:  # noqa: ANN401 - whatever the action returns
        store = open_store()
        start.wait()
        try:
            return action(store, number)
        except Exception as error:  # noqa: BLE001 - a racer's error is its result
            return error
        finally:
            store.close()

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(runner, range(RACERS)))


class StoreFixtures:
    """The two handles that every part of the kit uses."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """Override: a function that opens a handle on one store, empty at first."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, open_store: OpenStore) -> Store:
        """The handle under test."""
        return open_store()

    @pytest.fixture
    def other(self, open_store: OpenStore) -> Store:
        """A second handle on the same store."""
        return open_store()
