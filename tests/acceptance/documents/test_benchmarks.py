"""The page of benchmarks shows what was measured, and its commands are the benchmark's own."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest

from ml_pipeline.training.backtest import backtest
from ml_pipeline.training.policies import History
from tests.benchmarks import bench_learning
from tests.benchmarks.learning import peers, scale, streams
from tests.benchmarks.learning.replay import Case, in_order, labelled, replayed, started
from tests.benchmarks.learning.table import NAMES, Measured, table
from tests.support.shell import ROOT

PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
LINES = ROOT / "tests" / "benchmarks" / "data" / "learning.jsonl"
SCALE = ROOT / "tests" / "benchmarks" / "data" / "scale.jsonl"


def test_the_table_of_the_page_is_made_of_the_lines_that_were_measured() -> None:
    lines = [Measured.read(line) for line in LINES.read_text(encoding="utf-8").splitlines()]
    assert len({one.case for one in lines}) == len(lines)
    assert table(lines) in PAGE


def test_the_table_of_single_nights_is_made_of_the_lines_that_were_measured() -> None:
    lines = [json.loads(line) for line in SCALE.read_text(encoding="utf-8").splitlines()]
    assert {one["night"] for one in lines} <= set(scale.NIGHTS)
    assert scale.table(lines) in PAGE


def test_the_commands_of_the_page_are_the_benchmarks_own() -> None:
    commands = re.findall(r"python -m tests\.benchmarks\.bench_learning([^`\n]*)", PAGE)
    assert len(commands) > 1
    for command in commands:
        bench_learning.parser().parse_args(shlex.split(command))


def test_what_a_peer_needs_is_in_the_benchmarks_requirements_and_no_one_else_installs_it() -> None:
    def pinned(path: str) -> set[str]:
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        return {line.partition("==")[0].removesuffix("-cpu") for line in lines if "==" in line}

    assert pinned("tests/benchmarks/requirements.txt") == set(peers.PEERS.values())
    assert pinned("requirements.txt") & set(peers.PEERS.values()) == set()


# -------------------------------------------------------------------------- what is measured


def test_labels_come_after_the_predictions_of_their_day_and_before_those_of_the_next() -> None:
    assert list(in_order([1, 2], 0)) == [("predict", 0), ("learn", 0), ("predict", 1), ("learn", 1)]
    assert list(in_order([1, 2, 5, 9], 2)) == [
        ("predict", 0), ("predict", 1),
        ("learn", 0), ("learn", 1),  # of the days 3 and 4, on which nothing is predicted
        ("predict", 2), ("learn", 2), ("predict", 3),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def short() -> History:
    return streams.shortened(streams.read("weather", None, 0), 8)


def test_with_labels_at_once_it_is_the_backtest(short: History) -> None:
    start = started(short, 0)
    expected = backtest(short, start.settings, ["adaptive"], lambda _, __: lambda: None)
    found, told = replayed(Case(stream="weather", policy="adaptive"), start)
    assert told == pytest.approx(found.losses.mean(), abs=1e-12)
    assert np.allclose(found.losses, expected["adaptive"].losses, rtol=0, atol=1e-12)
    case = Case(stream="weather", policy="adaptive")
    blocks = Measured.of(case, found).worst_block(Measured.of(case, expected["frozen"]))
    figures = found.figures(expected["frozen"])
    assert blocks[0] == pytest.approx(figures["worst_block_points"], abs=1e-3)
    assert blocks[1] == pytest.approx(figures["worst_block_nats"], abs=1e-5)
    late, nothing = replayed(Case(stream="weather", policy="refit", delay_days=30), start)
    assert nothing is None
    assert np.allclose(late.losses, expected["frozen"].losses, rtol=0, atol=1e-12)


def test_only_wrong_answers_and_some_right_ones_get_a_label(short: History) -> None:
    _, rows = started(short, 0).nights[0]
    draws = np.linspace(0, 0.99, len(rows))
    is_wrong = rows.base.argmax(axis=1) != rows.actual
    for labels, kept in (
        ("all", np.ones(len(rows), dtype=bool)), ("errors", is_wrong),
        ("tenth", is_wrong | (draws < 0.1)),
    ):  # fmt: skip
        found = labelled(rows, rows.base, draws, labels)
        assert found.event_ids == rows.take(np.flatnonzero(kept)).event_ids
        heavy = 10.0 if labels == "tenth" else 1.0
        assert found.weights.tolist() == np.where(is_wrong, 1.0, heavy)[kept].tolist()


def test_streams_are_the_same_for_a_seed_and_others_for_another() -> None:
    for name in streams.CONCEPTS:
        one, again, other = (streams.read(name, None, seed) for seed in (1, 1, 2))
        assert np.array_equal(one.features, again.features)
        assert one.labels.tolist() == again.labels.tolist()
        assert not np.array_equal(one.features, other.features)


def test_what_is_missing_is_named_and_the_rest_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PEERS", {"forest": "no_such_package"})
    bench_learning.main(
        ["--quick", "--streams", "elec2", "weather", "--policies", "adaptive", "forest"]
    )
    first, *_, shown = capsys.readouterr().out.partition("\n\n")
    assert [Measured.read(line).case for line in first.splitlines()] == [
        Case(stream="weather", policy=name) for name in ("frozen", "adaptive")
    ]
    assert "| weather | at once | **adaptive** |" in shown
    assert f"{NAMES['forest']} is left out: the package no_such_package is not installed." in shown
    assert "elec2 is left out" in shown


def test_a_cell_is_the_median_over_seeds_beside_the_range() -> None:
    base = Measured(
        case=Case(stream="s", policy="adaptive"), accuracy=0.8, log_loss=0.41, train_cpu_s=2.0,
        nights=5, rows=50, block_accuracies=[0.9, 0.7], block_losses=[0.3, 0.52],
    )  # fmt: skip
    lines = [
        replace(
            base, case=replace(base.case, policy="frozen"),
            block_accuracies=[0.8, 0.71], block_losses=[0.6, 0.519],
        ),
        replace(base, case=replace(base.case, policy="refit"), train_cpu_s=8.0),
        base,
        replace(base, case=replace(base.case, seed=1), log_loss=0.43),
        replace(base, case=replace(base.case, seed=2), log_loss=0.42),
    ]  # fmt: skip
    assert Measured.read(base.line()) == base
    assert table(lines).splitlines()[-1] == (
        "| s | at once | **adaptive** | 80.00 | 0.4200 (0.4100–0.4300) | +1.00 | +0.0010 "
        "| 2.0 | 0.25 |"
    )
