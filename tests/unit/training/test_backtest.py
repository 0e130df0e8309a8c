"""A replay predicts each night from earlier nights only, and says what it would have been worth."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipeline.commands.backtest import main
from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation.ledger import COLUMN, FORMER_COLUMNS, with_all_columns
from ml_pipeline.evaluation.metrics import Floats, encode, row_losses
from ml_pipeline.training import algorithms, backtest
from ml_pipeline.training.backtest import Replay, grouped
from ml_pipeline.training.online.experts import KnownRows
from ml_pipeline.training.online.rows import Rows, by_day
from ml_pipeline.training.online_model import OnlineState
from ml_pipeline.training.policies import (
    POLICIES,
    SLOW_POLICIES,
    Adaptive,
    Challengers,
    History,
    as_model,
    build_policy,
)
from tests.support import streams
from tests.support.streams import FEATURES, draw, moment_of

NIGHTS, ROWS, INIT = 50, 40, 400
DRIFT = 0.04
KEYS = {
    "accuracy",
    "log_loss",
    "worst_block_points",
    "worst_block_nats",
    "train_cpu_s",
    "promotions",
    "nights",
    "rows",
}


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings file of the working folder, and loggers as they were."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _frame(*, drift: float = DRIFT, nights: int = NIGHTS) -> pd.DataFrame:
    parts = []
    for night in range(nights):
        features, labels = draw(3000 + night, ROWS, turn=drift * night)
        part = pd.DataFrame(features, columns=FEATURES)
        part["y"] = labels
        part["night"] = night
        part["at"] = [moment_of(night, minute).isoformat() for minute in range(ROWS)]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _csv(frame: pd.DataFrame | None = None) -> str:
    path = Path("history.csv")
    (_frame() if frame is None else frame).to_csv(path, index=False)
    return str(path)


def _history(frame: pd.DataFrame) -> History:
    return History(
        features=frame[FEATURES].to_numpy(dtype=np.float64),
        labels=frame["y"].to_numpy(dtype=str),
        nights=frame["night"].to_numpy(dtype=np.int64),
        classes=["A", "D", "H"],
        names=list(FEATURES),
        initial=INIT,
    )


def _replays(frame: pd.DataFrame, *policies: str) -> dict[str, Replay]:
    return backtest.backtest(
        _history(frame), Settings(), policies, lambda _name, _total: lambda: None
    )


def _figures(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    """What the command prints; it has to succeed."""
    code = main(["--target", "y", "--init", str(INIT), *flags])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    result: dict[str, Any] = json.loads(printed.out.splitlines()[-1])
    return dict(result["policies"])


def _refusal(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The message of a command that fails."""
    assert main(list(flags)) == 1
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["status"] == "failed"
    assert result["error_type"] in {"DataError", "ConfigError"}
    return str(result["error"])


# ------------------------------------------------------------------------------------ worth


def test_on_a_world_that_turns_the_line_beats_the_base_and_the_errors_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = _figures(capsys, "--csv", _csv(), "--night", "night", "--drop", "at")
    assert list(figures) == list(POLICIES)
    assert all(set(values) == KEYS for values in figures.values())
    adaptive, frozen = figures["adaptive"], figures["frozen"]
    assert adaptive["accuracy"] > frozen["accuracy"] + 0.05
    assert adaptive["log_loss"] < frozen["log_loss"] - 0.2
    assert adaptive["accuracy"] > figures["seed"]["accuracy"] + 0.1
    assert adaptive["worst_block_points"] < figures["seed"]["worst_block_points"]
    assert figures["refit"]["log_loss"] < frozen["log_loss"]
    assert {values["rows"] for values in figures.values()} == {NIGHTS * ROWS - INIT}
    assert {values["nights"] for values in figures.values()} == {NIGHTS - INIT // ROWS}
    assert (figures["refit"]["promotions"], frozen["promotions"]) == (40, 0)


def test_on_a_world_that_stands_still_the_line_costs_next_to_nothing() -> None:
    replays = _replays(_frame(drift=0.0), "adaptive")
    adaptive = replays["adaptive"].figures(replays["frozen"])
    frozen = replays["frozen"].figures(replays["frozen"])
    assert adaptive["log_loss"] < frozen["log_loss"] + 0.01
    assert adaptive["accuracy"] > frozen["accuracy"] - 0.01


def test_the_base_is_never_worse_than_itself() -> None:
    frozen = _replays(_frame())["frozen"]
    figures = frozen.figures(frozen)
    assert (figures["worst_block_points"], figures["worst_block_nats"]) == (0, 0)
    assert figures["promotions"] == 0


@pytest.mark.parametrize("policy", [*POLICIES, *SLOW_POLICIES])
def test_no_night_is_predicted_with_its_own_labels_or_later_ones(policy: str) -> None:
    frame, changed = _frame(nights=30), _frame(nights=30)
    late = changed["night"] >= 20
    changed.loc[late, "y"] = changed.loc[late, "y"].map({"H": "A", "A": "H", "D": "D"})
    plain, other = (_replays(each, policy)[policy] for each in (frame, changed))
    assert plain.per_night[:10] == other.per_night[:10]
    # Night 20 is the first with other labels; a draw's loss tells what was said of it.
    scored = frame["y"].to_numpy()[INIT:]
    first = slice(10 * ROWS, 11 * ROWS)
    draws = scored[first] == "D"
    assert draws.any()
    assert np.array_equal(plain.losses[first][draws], other.losses[first][draws])
    assert plain.per_night[10:] != other.per_night[10:]


def test_a_new_base_takes_over_where_the_old_one_cannot_follow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A base that knew nothing of the truth, with heads that never get a say."""
    left: list[set[str]] = []
    learn = Challengers.learn

    def watched(policy: Challengers, night: int, rows: Rows) -> None:
        before, serving = {shadow.name for shadow in policy.shadows}, policy.model
        learn(policy, night, rows)
        if policy.model is not serving:
            left.append(before & {shadow.name for shadow in policy.shadows})

    monkeypatch.setattr(Challengers, "learn", watched)
    changes = {
        "training.adaptive.initial_head_weight": 1e-9,
        "training.adaptive.vote_rate": 1e-9,
        "training.adaptive.vote_share": 0.0,
        "training.refit_every_days": 10,
    }
    replays = backtest.backtest(
        _history(_frame()),
        Settings().changed(changes),
        ["challengers"],
        lambda _n, _t: lambda: None,
    )
    figures = replays["challengers"].figures(replays["frozen"])
    frozen = replays["frozen"].figures(replays["frozen"])
    assert figures["log_loss"] < frozen["log_loss"] - 0.1
    # The base with fresh heads proved better in the same night: it goes on and is compared anew.
    assert left[0] == {"fresh 19"}


def _after_one_night(gain_per_row: float) -> Adaptive:
    """The policy after a night, when the three nights before it gained that much on the anchor."""
    anchor = streams.model()
    rows, entry = 60, dict.fromkeys(FORMER_COLUMNS, 0.0)
    entry |= {"rows": rows, "gain_sum": rows * gain_per_row}
    entry["gain_squares"] = rows * (gain_per_row**2 + 0.01)
    nights = [list((entry | {"night": night}).values()) for night in (1, 2, 3)]
    ledger = with_all_columns(np.array(nights))
    fresh = OnlineState.fresh(anchor)
    policy = Adaptive(
        model=anchor,
        settings=streams.SETTINGS,
        state=replace(fresh, ledger=ledger, champions=("x",) * 3, night=3),
        served=streams.model().partial_fit(*draw(1, 200, turn=1.0)).memory(),
        known=KnownRows(
            nights=np.empty(0, dtype=np.int64),
            features=np.empty((0, 3)),
            actual=np.empty(0, dtype=np.int64),
            weights=np.empty(0),
            classes=anchor.classes_,
        ),
        served_id="night 3",
    )
    features, labels = draw(2, 30)
    codes = np.array(["HDA".index(label) for label in labels])
    events = tuple(f"{number:03d}" for number in range(30))
    latest = Rows(
        features=features,
        base=anchor.base_proba(features),
        actual=codes,
        weights=np.ones(30),
        event_ids=events,
    )
    policy.learn(4, latest)
    return policy


def test_a_nightly_refit_takes_a_row_for_as_many_answers_as_it_stands_for() -> None:
    history = replace(_history(_frame(nights=20)), weights=np.resize([1.0, 10.0], 20 * ROWS))
    replays = backtest.backtest(history, Settings(), ["refit"], lambda _, __: lambda: None)
    last = 19 * ROWS
    base = algorithms.fit(
        "LogisticRegression", history.features[:last], history.labels[:last], Settings().training,
        weights=history.weights[:last] if history.weights is not None else None,
    )  # fmt: skip
    shares = base.predict_proba(history.features[last:])
    losses = row_losses(encode(history.labels[last:], base.classes_), shares)
    assert replays["refit"].losses[-ROWS:] == pytest.approx(losses)


def test_a_line_that_has_made_things_worse_gives_way_to_its_anchor() -> None:
    policy = _after_one_night(-0.3)
    assert (policy.served_id, policy.promotions) == ("anchor", 0)
    features = draw(3, 50)[0]
    rows = Rows(
        features=features,
        base=streams.model().base_proba(features),
        actual=np.zeros(50, dtype=np.int64),
        weights=np.ones(50),
        event_ids=tuple(map(str, range(50))),
    )
    expected = streams.model().predict_proba(features)
    assert policy.predict(rows) == pytest.approx(expected, abs=1e-12)
    # It goes on learning unseen.
    assert policy.state.memory.last_night == 4


def test_a_line_that_has_made_nothing_worse_serves() -> None:
    policy = _after_one_night(0.05)
    assert (policy.served_id, policy.promotions) == ("night 4", 1)
    assert policy.served is policy.state.memory


# ---------------------------------------------------------------------------------- figures


def _replay(losses: list[float], hits: list[bool]) -> Replay:
    return Replay(
        losses=np.array(losses),
        hits=np.array(hits),
        train_cpu_s=1.23456,
        promotions=2,
        per_night=[(1, len(hits), 0.0, 0.0)],
    )


def test_a_block_is_a_twentieth_of_the_rows() -> None:
    frozen = _replay([0.5] * 40, [True] * 40)
    losses, hits = [0.5] * 40, [True] * 40
    losses[6:8], hits[7] = [0.7, 0.6], False
    losses[20] = 0.1
    figures = _replay(losses, hits).figures(frozen)
    assert figures["worst_block_points"] == 50
    assert figures["worst_block_nats"] == pytest.approx(0.15)
    assert figures["accuracy"] == 0.975
    assert figures["log_loss"] == pytest.approx((40 * 0.5 + 0.3 - 0.4) / 40)
    assert figures["train_cpu_s"] == 1.235
    assert (figures["promotions"], figures["nights"], figures["rows"]) == (2, 1, 40)


def test_fewer_rows_than_blocks_make_blocks_of_one_row() -> None:
    frozen = _replay([0.5] * 3, [True, True, False])
    better = _replay([0.5, 0.9, 0.1], [True, False, True]).figures(frozen)
    assert better["worst_block_points"] == 100
    assert better["worst_block_nats"] == pytest.approx(0.4)


# ----------------------------------------------------------------------------------- nights


@pytest.mark.parametrize("policy", [*POLICIES, *SLOW_POLICIES])
def test_a_label_that_comes_late_is_known_to_nobody_before(policy: str) -> None:
    frame, changed = _frame(nights=30), _frame(nights=30)
    other = changed["night"] >= 18
    changed.loc[other, "y"] = changed.loc[other, "y"].map({"H": "A", "A": "H", "D": "D"})
    plain, late = (
        backtest.backtest(
            _delayed(_history(each), 3), Settings(), [policy], lambda _name, _total: lambda: None
        )[policy]
        for each in (frame, changed)
    )
    # Labels of night 18 come on night 21, after its predictions: those of 22 may know them.
    draws = (frame["y"].to_numpy()[INIT:] == "D") & (frame["night"].to_numpy()[INIT:] <= 21)
    assert draws.sum() > 50
    assert np.array_equal(plain.losses[draws], late.losses[draws])
    if policy != "frozen":
        after = frame["night"].to_numpy()[INIT:] >= 22
        assert not np.array_equal(plain.losses[after], late.losses[after])


def _delayed(history: History, days: int) -> History:
    return replace(history, nights=history.nights + days, predicted=history.nights)


def test_the_ledger_of_late_labels_is_about_what_was_served() -> None:
    history = _delayed(_history(_frame()), 7)
    settings = Settings().changed({"data.features": FEATURES, "data.classes": history.classes})
    start = history.features[:INIT], history.labels[:INIT]
    base = algorithms.fit("LogisticRegression", *start, settings.training)
    model = as_model(base, start[0], history.classes, settings)
    policy = build_policy("adaptive", model, history, settings)
    assert isinstance(policy, Adaptive)
    nights = list(by_day(history.nights[INIT:], history.rows(model)))
    answered: dict[int, Floats] = {}
    losses = []
    for day in range(10, 57):
        if day < 50:
            answered[day] = policy.predict(nights[day - 10][1])
        for night, rows in nights:
            if night == day:
                losses.append(row_losses(rows.actual, answered[day - 7]).sum())
                policy.learn(night, rows)
    told = policy.state.ledger[:, COLUMN["live_loss"]]
    # The line knows what the gate let serve but for nights on which the base served.
    assert abs(told.sum() - sum(losses)) / len(history.labels[INIT:]) < 0.02


def test_the_delay_of_a_file_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--csv", _csv(), "--night", "night", "--drop", "at", "--policies", "adaptive")
    at_once = _figures(capsys, *flags)["adaptive"]
    late = _figures(capsys, *flags, "--label_delay_days", "7")["adaptive"]
    assert at_once["rows"] == late["rows"]
    assert at_once["log_loss"] + 0.05 < late["log_loss"]
    refused = _refusal(capsys, "--target", "y", *flags, "--label_delay_days", "-1")
    assert "--label-delay-days -1: no label comes before" in refused


def _day(size: int, first: int) -> Rows:
    return Rows(
        features=np.zeros((size, 1)),
        base=np.full((size, 2), 0.5),
        actual=np.zeros(size, dtype=np.int64),
        weights=np.ones(size),
        event_ids=tuple(str(first + number) for number in range(size)),
    )


@given(st.lists(st.integers(1, 50), max_size=20), st.integers(1, 40))
def test_small_days_are_joined_until_a_night_has_enough_rows(
    sizes: list[int], min_rows: int
) -> None:
    starts = np.cumsum([0, *sizes]).tolist()
    days = [(day, _day(size, starts[day])) for day, size in enumerate(sizes)]
    nights = grouped(iter(days), min_rows)
    joined = [event for _, rows in nights for event in rows.event_ids]
    assert joined == [str(number) for number in range(len(joined))]
    assert sum(sizes) - len(joined) < min_rows
    for night, rows in nights:
        assert len(rows) >= min_rows
        # Without its last day it would have been too small.
        assert len(rows) - sizes[night] < min_rows


def test_a_column_of_times_and_one_of_numbers_cut_the_same_nights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = _csv()
    flags = ("--csv", path, "--policies", "adaptive")
    numbered = _figures(capsys, *flags, "--night", "night", "--drop", "at")["adaptive"]
    timed = _figures(capsys, *flags, "--time", "at", "--drop", "night")["adaptive"]
    for values in (numbered, timed):
        values.pop("train_cpu_s")
    assert timed == numbered


def test_the_order_of_nights_in_the_file_does_not_matter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--csv", "history.csv", "--policies", "frozen", "--night", "night", "--drop", "at")
    frame = _frame()
    _csv(frame)
    forwards = _figures(capsys, *flags)
    _csv(frame.sort_values("night", ascending=False, kind="stable"))
    assert _figures(capsys, *flags)["frozen"]["log_loss"] == pytest.approx(
        forwards["frozen"]["log_loss"], abs=1e-12
    )


def test_without_init_the_first_fifth_trains_the_base(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--csv", _csv(), "--target", "y", "--night", "night", "--drop", "at"]
    assert main([*flags, "--policies", "frozen"]) == 0
    figures = json.loads(capsys.readouterr().out)["policies"]["frozen"]
    assert figures["rows"] == NIGHTS * ROWS * 0.8


def test_the_features_can_be_named_or_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--csv", _csv(), "--night", "night", "--policies", "frozen")
    named = _figures(capsys, *flags, "--features", " form , strength ")
    dropped = _figures(capsys, *flags, "--drop", "rest,at")
    for values in (named["frozen"], dropped["frozen"]):
        values.pop("train_cpu_s")
    assert named == dropped
    everything = _figures(capsys, *flags, "--drop", "at")
    assert everything["frozen"]["log_loss"] != named["frozen"]["log_loss"]


def test_another_base_is_another_model(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--csv", _csv(), "--night", "night", "--drop", "at", "--policies", "frozen")
    linear = _figures(capsys, *flags)["frozen"]
    tree = _figures(capsys, *flags, "--base", "DecisionTree")["frozen"]
    assert tree["log_loss"] != linear["log_loss"]


def test_figures_and_nights_are_written_where_they_are_wanted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--csv", _csv(), "--night", "night", "--drop", "at", "--policies", "adaptive")
    printed = _figures(capsys, *flags, "--output_dir", "out/deep")
    assert json.loads(Path("out/deep/figures.json").read_text(encoding="utf-8")) == printed
    with Path("out/deep/nights.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["night"] for row in rows if row["policy"] == "adaptive"] == [
        str(night) for night in range(10, NIGHTS)
    ]
    mine = [row for row in rows if row["policy"] == "adaptive"]
    assert np.mean([float(row["accuracy"]) for row in mine]) == pytest.approx(
        printed["adaptive"]["accuracy"]
    )


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ([], "Give either --night COLUMN"),
        (["--night", "night", "--time", "at"], "Give either --night COLUMN"),
        (["--night", "evening"], "has no column evening."),
        (["--night", "night", "--target", "z"], "has no column z."),
        (["--night", "form"], "form must hold whole numbers."),
        (["--time", "y"], "y holds 2000 values that are not times."),
        (
            ["--night", "night", "--features", "form,nothing"],
            "Feature columns are missing: nothing",
        ),
        (["--night", "night", "--init", "0"], "--init 0 leaves nothing to replay"),
        (["--night", "night", "--init", "2000"], "--init 2000 leaves nothing to replay of 2000"),
        (["--night", "night", "--drop", "at", "--init", "1990"], "no night has 30 rows"),
        (["--night", "night", "--policies", "frozen,magic"], "unknown magic"),
        (
            ["--night", "night", "--policies", ""],
            "Known are frozen, seed, refit, adaptive, challengers, experts.",
        ),
        (["--night", "night", "--base", "Oracle"], "training.algorithm = 'Oracle' (flag"),
        (["--night", "night", "--drop", "form,strength,rest,at"], "a model needs an input"),
    ],
)
def test_what_cannot_be_replayed_is_refused_with_its_fault(
    flags: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fault in _refusal(capsys, "--csv", _csv(), "--target", "y", *flags)


def test_a_missing_file_and_empty_labels_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "There is no file none.csv." in _refusal(capsys, "--csv", "none.csv", "--night", "night")
    frame = _frame()
    frame.loc[3:4, "y"] = " "
    flags = ("--csv", _csv(frame), "--target", "y", "--night", "night", "--drop", "at")
    assert "y is empty in 2 rows." in _refusal(capsys, *flags)


def test_a_base_cannot_be_trained_on_one_class(capsys: pytest.CaptureFixture[str]) -> None:
    frame = _frame()
    frame.loc[: INIT - 1, "y"] = "H"
    flags = ("--csv", _csv(frame), "--target", "y", "--night", "night", "--drop", "at")
    assert "hold only 1 class: H" in _refusal(capsys, *flags, "--init", str(INIT))


def test_a_class_that_comes_later_is_replayed_all_the_same() -> None:
    frame = _frame()
    early = frame.index < INIT
    frame.loc[early & (frame["y"] == "D"), "y"] = "A"
    replays = _replays(frame, *POLICIES)
    for replay in replays.values():
        assert np.isfinite(replay.losses).all()
    assert replays["adaptive"].losses.mean() < replays["frozen"].losses.mean() - 0.5


def _classes_and_features(
    capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[list[str], list[str], float]:
    assert main([*flags, "--init", str(INIT), "--policies", "frozen"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    return done["classes"], done["features"], done["policies"]["frozen"]["accuracy"]


def test_labels_are_read_as_the_settings_spell_them_and_classes_and_features_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    frame = _frame(nights=20)
    frame["y"] = np.where(frame["y"] == "H", "yes", "no")
    flags = ("--csv", _csv(frame), "--target", "y", "--night", "night", "--drop", "at")
    clean = _classes_and_features(capsys, *flags)
    assert clean[:2] == (["no", "yes"], list(FEATURES))

    frame["y"] = [
        (text, text.title(), f" {text}", text.upper())[row % 4]
        for row, text in enumerate(frame["y"])
    ]
    frame.to_csv("history.csv")  # with its index, which has no name
    Path("model_config.yaml").write_text("data: {classes: ['yes', 'no']}\n")
    assert _classes_and_features(capsys, *flags) == (["yes", "no"], *clean[1:])
    Path("model_config.yaml").write_text(
        "data: {target: y, classes: [won, lost], labels: {'yes': won, 'no': lost}}\n"
    )
    found = _classes_and_features(capsys, *flags[:2], *flags[4:])
    assert found == (["won", "lost"], *clean[1:])


def test_a_label_that_the_settings_do_not_know_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    frame = _frame(nights=12)
    frame.loc[[3, 4], "y"] = "banana"
    Path("model_config.yaml").write_text("data: {target: y, classes: [H, D, A]}\n")
    said = _refusal(capsys, "--csv", _csv(frame), "--night", "night", "--drop", "at")
    assert "y is 'banana' in 2 rows (row 4, 5)" in said
    assert "H, D, A" in said


def test_the_index_of_a_parquet_file_is_no_feature(capsys: pytest.CaptureFixture[str]) -> None:
    frame = _frame(nights=12)
    frame.index = frame.index * 3
    import duckdb

    rows = frame.reset_index(names="__index_level_0__")
    duckdb.from_df(rows).write_parquet("history.parquet")
    flags = ("--csv", "history.parquet", "--target", "y", "--night", "night", "--drop", "at")
    assert _classes_and_features(capsys, *flags)[1] == list(FEATURES)
