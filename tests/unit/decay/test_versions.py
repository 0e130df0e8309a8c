"""What is said of two versions, and where it is shown."""

from __future__ import annotations

import pytest

from ml_pipeline.decay import messages
from ml_pipeline.decay.refresh.versions import Versions
from ml_pipeline.evaluation.two_rates import Rate
from tests.support.factories import make_alert


def versions(old: tuple[int, int], new: tuple[int, int]) -> Versions:
    first, second = (Rate(hits=hits, rows=rows) for hits, rows in (old, new))
    return Versions(old_ids=("llm-1",), new_id="llm-2", old=first, new=second)


CASES = {
    ((108, 180), (0, 0)): "has no results yet; the alert waits for them.",
    ((0, 0), (9, 10)): "(10 new results); of the old one there are none since the decay began.",
    ((108, 180), (6, 10)): "(180 new results). That is no certain difference yet.",
    ((90, 180), (57, 60)): "was right 95.0 % of the time (60 new results), the old one 50.0 % of "
    "the time (180 new results). It is better: equal versions differ as much in under 0.01 % of "
    "the cases.",
    ((108, 180), (12, 60)): "It is worse: equal versions differ as much in under 0.01 % of the "
    "cases.",
    ((108, 180), (18, 60)): "It is worse: equal versions differ as much in at most 4.2 % of the "
    "cases.",
}


@pytest.mark.parametrize(("counts", "ending"), CASES.items())
def test_both_rates_their_counts_and_how_sure_it_is(
    counts: tuple[tuple[int, int], tuple[int, int]], ending: str
) -> None:
    compared = versions(*counts)
    sentence = compared.sentence
    assert sentence.startswith("The new version llm-2 ")
    assert sentence.endswith(ending)
    assert not (compared.is_better and compared.is_worse)
    shown = make_alert(
        action="command",
        details={"command": ["train"], "new_model_id": "llm-2", "versions": compared.as_json()},
    )
    assert messages.next_step(shown) == f"`train` was run. {sentence}"
