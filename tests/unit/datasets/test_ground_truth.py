"""From a table of labels to rows to train on: what is left out, refused, held out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.ground_truth import read_truth
from ml_pipeline.datasets.splits import learned_until, split_stable, unlearned
from ml_pipeline.errors import ConfigError, DataError
from ml_pipeline.store.embedded.store import LocalStore
from tests.support.factories import NOW, make_id


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    opened = LocalStore.open(tmp_path / "store")
    yield opened
    opened.close()


def settings_for(**changes: Any) -> Settings:  # noqa: ANN401 - setting values
    fixed = {"data.features": ["a", "b"], "data.classes": ["EASY", "MEDIUM", "HARD"]}
    return Settings().changed(
        fixed | {name.replace("__", "."): value for name, value in changes.items()}
    )


def make_labels(count: int, **changes: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - columns
    """Rows, one an hour up to NOW, whose label follows feature `a`."""
    rows = []
    for number in range(count):
        row = {
            "id": make_id(number + 1),
            "created_at": NOW - timedelta(hours=count - number),
            "features": {"a": float(number % 3), "b": number / 10},
            "label": ["EASY", "MEDIUM", "HARD"][number % 3],
        }
        rows.append(row | changes)
    return rows


def test_fifty_rows_are_enough_and_forty_nine_are_not(store: LocalStore) -> None:
    store.add_labels(make_labels(49))
    with pytest.raises(DataError, match=r"49 usable rows of table ml_data .* 50 are needed"):
        read_truth(store, settings_for())
    store.add_labels(make_labels(50)[49:])
    store.add_labels([make_labels(1)[0] | {"id": make_id(99)}])
    data, report = read_truth(store, settings_for())
    assert (len(data), report.usable, report.bad) == (51, 51, 0)


def test_an_empty_table_is_refused(store: LocalStore) -> None:
    with pytest.raises(DataError, match="table ml_data is empty"):
        read_truth(store, settings_for())


def test_labels_in_other_case_and_with_spaces_are_the_same_labels(store: LocalStore) -> None:
    rows = make_labels(60)
    store.add_labels([row | {"label": f" {row['label'].title()} "} for row in rows])
    data, _ = read_truth(store, settings_for())
    assert data.labels.tolist() == [row["label"] for row in rows]


def test_rows_without_a_label_wait_and_bad_rows_are_counted_and_left_out(store: LocalStore) -> None:
    rows = make_labels(60)
    rows[3]["label"], rows[4]["label"] = None, "  "
    rows[5]["label"] = "IMPOSSIBLE"
    rows[6]["features"] = {"a": "tall", "b": 1}
    rows[7]["features"] = {"b": 1}
    store.add_labels(rows)
    data, report = read_truth(store, settings_for())
    assert (report.unlabelled, report.bad, report.usable) == (2, 2, 56)
    assert report.reasons == {"unknown label": 1, "a is not a finite number": 1}
    assert len(data) == 56
    assert np.isnan(data.features[:, 0]).sum() == 1


def test_a_row_that_says_nothing_is_not_learned(store: LocalStore) -> None:
    rows = make_labels(60)
    for place, features in enumerate(([1, 2], None, {}, {"c": 1}, '{"a": 1, "b": 2}')):
        rows[place]["features"] = features
    rows[5]["features"] = {"a": None, "b": None}
    store.add_labels(rows)
    data, report = read_truth(store, settings_for(log__max_bad_rows=0.1))
    assert (report.usable, report.reasons) == (55, {"no features": 5})
    assert np.isnan(data.features).all(axis=1).sum() == 1


def test_too_many_bad_rows_are_refused_with_their_reasons(store: LocalStore) -> None:
    rows = make_labels(60)
    for row in rows[:10]:
        row["label"] = "IMPOSSIBLE"
    store.add_labels(rows)
    with pytest.raises(DataError, match=r"10 of 60 labelled rows .*unknown label \(10\)"):
        read_truth(store, settings_for())


def test_rows_of_another_model_are_left_out_where_a_column_names_it(store: LocalStore) -> None:
    other = [row | {"id": make_id(500 + n)} for n, row in enumerate(make_labels(5))]
    store.add_labels([*make_labels(60), *(row | {"model_name": "chess"} for row in other)])
    data, report = read_truth(store, settings_for(ground_truth__model_column="model_name"))
    assert (len(data), report.other_model) == (60, 5)
    assert len(read_truth(store, settings_for())[0]) == 65


@pytest.mark.parametrize("name", ["target", "time_column", "model_column", "group_column"])
def test_a_column_that_is_not_there_is_named(store: LocalStore, name: str) -> None:
    store.add_labels(make_labels(60))
    with pytest.raises(DataError, match="no column shoe_size"):
        read_truth(store, settings_for(**{f"ground_truth__{name}": "shoe_size"}))


def test_the_inference_log_is_refused_as_ground_truth() -> None:
    with pytest.raises(ConfigError, match="the inference log is not ground truth"):
        settings_for(ground_truth__table="evaluation_log")


def test_a_name_that_could_be_a_statement_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ground_truth\.table"):
        settings_for(ground_truth__table='ml_data"; drop table x; --')


def test_the_last_rows_in_time_are_held_out(store: LocalStore) -> None:
    store.add_labels(make_labels(100)[::-1])
    data, _ = read_truth(store, settings_for())
    parts = split_stable(data, settings_for())
    assert data.times is not None
    assert data.times.iloc[parts.train].max() < data.times.iloc[parts.holdout].min()
    assert len(parts.holdout) == 20


def test_rows_that_the_champion_may_have_learned_are_not_judged_on(store: LocalStore) -> None:
    store.add_labels(make_labels(100))
    data, _ = read_truth(store, settings_for())
    parts = split_stable(data, settings_for())
    until = learned_until(data, parts.train)
    assert len(unlearned(data, parts, until).holdout) == 20
    assert until is not None
    later = until + timedelta(hours=5)
    assert len(unlearned(data, parts, later).holdout) == 15


def test_without_times_a_table_that_grows_keeps_what_it_held_out(store: LocalStore) -> None:
    settings = settings_for(ground_truth__time_column=None)
    store.add_labels(make_labels(80))
    before, _ = read_truth(store, settings)
    held = {before.frame["id"].iloc[row] for row in split_stable(before, settings).holdout}
    store.add_labels(make_labels(160)[80:])
    after, _ = read_truth(store, settings)
    parts = split_stable(after, settings)
    assert held
    assert held <= {after.frame["id"].iloc[row] for row in parts.holdout}


def test_levels_and_truths_of_the_table_are_read_by_their_kinds(store: LocalStore) -> None:
    rows = make_labels(60)
    for number, row in enumerate(rows):
        row["features"] = {"a": ["Oslo", "Rome", None][number % 3], "b": number % 2 == 0}
    rows[7]["features"] = {"a": "Oslo", "b": "perhaps"}
    store.add_labels(rows)
    kinds = {"a": "category", "b": "boolean"}
    data, report = read_truth(store, settings_for(data__features=kinds))
    assert report.reasons == {"b is no boolean": 1}
    assert np.isnan(data.features[:, 0]).sum() == 20
    assert set(data.features[:, 1]) == {0.0, 1.0}
    # Nobody names them: the table tells.
    told, _ = read_truth(store, settings_for(data__features=["a"]))
    assert told.kinds == {"a": "category"}
    everything, _ = read_truth(store, settings_for(data__features="auto"))
    assert list(everything.kinds) == ["a", "b"]
