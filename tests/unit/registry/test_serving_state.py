"""Since when the base serves of which the champion is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ml_pipeline.registry.serving_state import serves_since
from ml_pipeline.store.records import PromotionKind
from tests.support.factories import MODEL_NAME, NOW, make_model, make_promotion
from tests.support.places import Place

# Who serves after each day: a's follow each other, b's come between, a person goes back.
SERVED = ["a", "a-2", "b", "b-2", "a-2", "a-3"]
SINCE = [None, None, 2, 2, 4, 4]


@pytest.mark.parametrize("place", ["embedded", "supabase"], indirect=True)
def test_a_base_serves_since_another_one_did_for_the_last_time(place: Place) -> None:
    with place.opened() as store:
        for model_id in sorted(set(SERVED)):
            store.register(make_model(model_id, anchor_id=model_id[0]))
        before: str | None = None
        for day, (model_id, since) in enumerate(zip(SERVED, SINCE, strict=True)):
            kind = PromotionKind.ROLLBACK if day == 4 else PromotionKind.PROMOTION
            at = NOW + timedelta(days=day)
            store.promote(make_promotion(model_id, before, day, kind=kind, created_at=at))
            before, champion = model_id, store.champion(model_name=MODEL_NAME)
            assert champion is not None
            expected = None if since is None else NOW.toordinal() + since
            assert serves_since(store, champion) == expected
