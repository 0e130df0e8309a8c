"""The serving view of a whole store tells each name its own champion."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.store_serving_view import StoreServingView
from tests.support.factories import MODEL_NAME, make_model, make_promotion


def test_champions_of_one_id_under_two_names_are_told_apart_and_changes_are_seen(
    tmp_path: Path,
) -> None:
    store = LocalStore.open(tmp_path)
    algorithms = {MODEL_NAME: "LogisticRegression", "tennis": "RandomForest"}
    for number, (name, algorithm) in enumerate(algorithms.items()):
        for model_id in ("m-1", "m-2"):
            store.register(make_model(model_id, model_name=name, algorithm=algorithm))
        store.promote(make_promotion("m-1", None, number, model_name=name))
    with closing(StoreServingView(store)) as view:

        def told(name: str) -> tuple[str, str] | None:
            found = view.champion(name)
            return None if found is None else (found.model_id, found.algorithm)

        for _ in range(2):
            for name, algorithm in algorithms.items():
                assert told(name) == ("m-1", algorithm)
        store.promote(make_promotion("m-2", "m-1", 9, model_name="tennis"))
        assert told("tennis") == ("m-2", "RandomForest")
        assert told(MODEL_NAME) == ("m-1", "LogisticRegression")
        assert told("nobody") is None
