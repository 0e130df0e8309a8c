"""The conformance kit: promises about labels that people gave."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.label_file import LabelEntry, add_labels
from ml_pipeline.errors import NotFound, StoreRefused
from ml_pipeline.store.contract import Store
from tests.contract.kit.base import AWKWARD, StoreFixtures
from tests.support.factories import NOW, make_id


def make_label(number: int = 1, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - columns
    """A label added `number` hours before NOW."""
    label = {
        "id": make_id(number),
        "created_at": NOW - timedelta(hours=number),
        "query": f"question {number}",
        "label": "EASY",
    }
    return label | changes


def read_labels(store: Store, table: str = "ml_data", key: str = "id") -> pd.DataFrame:
    """The whole table."""
    return pd.concat(list(store.read_table(table, key=key)), ignore_index=True)


class GroundTruthContract(StoreFixtures):
    """Every promise of `GroundTruth`."""

    def test_a_label_comes_back_as_it_was_added(self, store: Store) -> None:
        label = make_label(query=AWKWARD, features={"length": 1.5, "ü": None}, metadata={"by": "x"})
        assert store.add_labels([label]) == 1
        (row,) = read_labels(store).to_dict("records")
        assert row["query"] == AWKWARD
        assert json.loads(row["features"]) == {"length": 1.5, "ü": None}
        assert json.loads(row["metadata"]) == {"by": "x"}
        assert (row["label"], row["model_name"]) == ("EASY", "default")
        assert pd.Timestamp(row["created_at"]) == pd.Timestamp(label["created_at"])

    def test_a_table_without_labels_gives_no_frame(self, store: Store) -> None:
        assert list(store.read_table("ml_data", key="id")) == []

    def test_more_labels_than_any_page_come_back_in_the_order_of_their_key(
        self, store: Store
    ) -> None:
        rows = [make_label(number) for number in range(1, 1204)]
        assert store.add_labels(rows[::-1]) == len(rows)
        assert read_labels(store)["id"].tolist() == [row["id"] for row in rows]

    def test_adding_a_label_again_changes_nothing(self, store: Store) -> None:
        assert store.add_labels([make_label(1)]) == 1
        assert store.add_labels([make_label(1), make_label(2), make_label(2)]) == 1
        assert len(read_labels(store)) == 2

    def test_a_known_id_with_another_label_is_refused_and_nothing_is_written(
        self, store: Store
    ) -> None:
        store.add_labels([make_label(1)])
        with pytest.raises(StoreRefused, match=make_id(1)):
            store.add_labels([make_label(2), make_label(1, label="HARD")])
        with pytest.raises(StoreRefused, match=make_id(3)):
            store.add_labels([make_label(3), make_label(3, label="HARD")])
        assert len(read_labels(store)) == 1

    def test_a_row_that_waits_gets_its_label_once(self, store: Store) -> None:
        store.add_labels([make_label(1, label=None), make_label(2, label=None), make_label(3)])
        assert store.known_labels([make_id(1), make_id(3), make_id(4), "none"]) == {
            make_id(1): None, make_id(3): "EASY",
        }  # fmt: skip
        assert store.add_labels([make_label(1, label="HARD"), make_label(3)]) == 1
        assert store.add_labels([make_label(1, label="HARD")]) == 0
        with pytest.raises(StoreRefused, match=make_id(1)):
            store.add_labels([make_label(1), make_label(2)])
        assert read_labels(store)["label"].tolist() == ["HARD", None, "EASY"]

    def test_a_label_goes_with_what_is_erased_under_whichever_id_it_was_given(
        self, store: Store
    ) -> None:
        settings = Settings().changed({"model_name": "default", "data.classes": ["EASY", "HARD"]})
        given = [
            LabelEntry(id=name, label="EASY", created_at=NOW, source="x", inputs={"length": 1.5})
            for name in ("customer 7", "customer 8", make_id(1), "")
        ]
        assert add_labels(store, given, settings, dry_run=False).refused == []
        for dry_run in (True, False):
            erased = store.erase_events(
                model_name="default", event_ids=[make_id(1)], match_ids=["customer 7"],
                dry_run=dry_run,
            )  # fmt: skip
            assert erased["ml_data"] == 2
        left = [json.loads(text) for text in read_labels(store)["metadata"]]
        assert sorted(left, key=len) == [{}, {"id": "customer 8"}]

    def test_models_that_share_the_table_have_each_a_label_of_the_same_id(
        self, store: Store
    ) -> None:
        alone = Settings().changed({"data.classes": ["EASY", "HARD"]})
        shared = alone.changed({"ground_truth.model_column": "model_name"})
        store.add_labels([make_label(2, model_name="churn", label=None)])

        def added(settings: Settings, name: str, *labels: str) -> tuple[int, int, int, int]:
            given = [
                LabelEntry(
                    id=make_id(place), label=label, created_at=NOW, source="x",
                    inputs={"length": 1.5},
                )
                for place, label in enumerate(labels, start=1)
            ]  # fmt: skip
            report = add_labels(store, given, settings.changed({"model_name": name}), dry_run=False)
            return report.added, report.filled, report.already_known, len(report.refused)

        assert added(shared, "churn", "EASY") == (1, 0, 0, 0)
        for _ in range(2):
            done = added(shared, "fraud", "EASY", "EASY")
            assert done in {(2, 0, 0, 0), (0, 0, 2, 0)}
        assert done == (0, 0, 2, 0)
        assert added(shared, "risk", "HARD") == (1, 0, 0, 0)
        assert added(shared, "churn", "EASY", "HARD") == (0, 1, 1, 0)
        assert added(alone, "fraud", "HARD", "HARD") == (0, 0, 1, 1)
        labels = read_labels(store)[["model_name", "label"]].to_numpy().tolist()
        assert sorted(labels) == [
            ["churn", "EASY"], ["churn", "HARD"], ["fraud", "EASY"], ["fraud", "EASY"],
            ["risk", "HARD"],
        ]  # fmt: skip

    def test_a_label_without_id_or_with_unknown_columns_is_refused(self, store: Store) -> None:
        for label in (make_label(id=""), make_label(created_at=None), make_label(colour="red")):
            with pytest.raises(StoreRefused, match="needs an id and a time"):
                store.add_labels([label])

    def test_a_table_that_is_not_there_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound, match="no_such_table"):
            list(store.read_table("no_such_table", key="id"))

    def test_a_key_that_is_not_there_is_not_found(self, store: Store) -> None:
        store.add_labels([make_label()])
        with pytest.raises(NotFound, match="serial"):
            list(store.read_table("ml_data", key="serial"))
