"""A stop is heeded inside `interruptible` and nowhere else, whatever else goes wrong there."""

from __future__ import annotations

import signal

import pytest

from ml_pipeline.errors import DataError, Stopped
from ml_pipeline.runs.stopping import Stop


def test_a_signal_breaks_off_what_may_be_broken_off() -> None:
    stop = Stop()
    with (
        stop.on_signals(),
        pytest.raises(Stopped, match="Stopped by SIGTERM"),
        stop.interruptible(),
    ):
        signal.raise_signal(signal.SIGTERM)


def test_what_has_to_be_whole_goes_on_and_the_next_chance_is_taken() -> None:
    stop = Stop()
    done = []
    with stop.on_signals():
        signal.raise_signal(signal.SIGTERM)
        stop.check()
        done.append("whole")
        with pytest.raises(Stopped), stop.interruptible():
            done.append("begun")
        stop.check()
    assert (done, stop.was_asked) == (["whole"], True)


def test_an_error_that_a_library_made_of_the_stop_is_the_stop() -> None:
    stop = Stop()

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except Stopped as error:
            raise ValueError("wrapped") from error

    with stop.on_signals(), pytest.raises(Stopped) as caught, stop.interruptible():
        work()
    assert caught.value.message == "Stopped by SIGINT."


def test_without_a_signal_errors_stay_what_they_are() -> None:
    stop = Stop()
    with pytest.raises(DataError), stop.interruptible():
        raise DataError("bad rows")
    assert not stop.was_asked
