"""Whole lives from random logs, with outages and crashes, checked against a ledger of their own.

`python -m tests.support.lives --seed 1 --lives 20000 --processes 2` lives as many as one likes.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ml_pipeline.config.environment import load_store_settings
from tests.support import shell, warm
from tests.support.lives import killed
from tests.support.lives.alone import lived
from tests.support.places import Place, long_but

EVERYDAY, LIVES = 12, 200
ON_SUPABASE = range(300, 310)
# Lives in which a run is killed.
KILLED = (502, 523, 531, 544)


@pytest.mark.long
def test_the_command_lives_lives_in_processes_of_their_own(tmp_path: Path) -> None:
    arguments = ("--seed", "900", "--lives", "2", "--processes", "2")
    done = shell.run([shell.PYTHON, "-m", "tests.support.lives", *arguments], cwd=tmp_path)
    assert done.code == 0, done.stdout
    assert "2 lives, 0 failed" in done.stdout


@pytest.mark.parametrize("seed", long_but(range(EVERYDAY), range(LIVES)))
def test_every_result_is_learned_once_or_counted_with_its_reason(seed: int) -> None:
    assert not lived(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", KILLED)
def test_runs_that_are_killed_by_a_signal_are_repaired(seed: int, tmp_path: Path) -> None:
    codes = list[int]()

    def kill(*arguments: object) -> None:
        codes.append(warm.call(killed.killed_run, *arguments, cwd=tmp_path).code)

    assert not lived(seed, kill=kill)
    assert set(codes) <= {0, -signal.SIGKILL}
    assert -signal.SIGKILL in codes


@pytest.mark.long
@pytest.mark.parametrize("place", ["supabase"], indirect=True)
@pytest.mark.parametrize("seed", ON_SUPABASE)
def test_on_supabase_as_well(seed: int, place: Place) -> None:
    assert not lived(seed, settings=load_store_settings(environment=place.variables))
