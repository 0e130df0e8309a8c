"""Who has most of the say, in words, and the same read from an artifact without loading it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml_pipeline.registry import archive
from ml_pipeline.registry.votes.stored import StoredVote, _vote_of
from ml_pipeline.reports.memories import Say, Voters
from ml_pipeline.training.heads.memory import Expert
from tests.conftest import FirstModel

NOW = Voters(half_lives=(5.0, 60.0), families=("plain", "pairs", "waves"), experts=("Tree",))
FORMER = Voters.of({"half_lives": [5.0, 60.0]})


def test_the_memory_that_wins_is_named_with_its_share() -> None:
    say = Say.of(NOW, [0.1, 0.1, 0.05, 0.2, 0.05, 0.3, 0.1, 0.1])
    assert say.sentence() == (
        "Of its memories, the one of about 5 days has most of the say (60.0 %); the base alone, "
        "as it was trained, has 10.0 %. The newest results tell most: the world seems to change "
        "quickly. By what its memories see: lines 15.0 %, products 25.0 %, waves 40.0 %, "
        "classifiers fitted anew 10.0 %."
    )
    assert say.as_json()["by_half_life_days"] == pytest.approx({"5": 0.6, "60": 0.2})
    assert say.as_json()["experts"] == {"Tree": 0.1}


@pytest.mark.parametrize(
    ("vote", "words"),
    [
        ([0.7, 0.2, 0.1], ("The base, as it was trained, has most of the say (70.0 %); of its "
         "memories, the one of about 5 days has 20.0 %: what was learned since changes its "
         "answers little.")),
        ([0.3, 0.2, 0.5], ("Of its memories, the one of about 60 days has the most say (50.0 %); "
         "the base alone, as it was trained, has 30.0 %. What was learned long ago still holds.")),
    ],
)  # fmt: skip
def test_a_model_of_lines_alone_says_nothing_of_what_they_see(
    vote: list[float], words: str
) -> None:
    assert Say.of(FORMER, vote).sentence() == words


def test_classifiers_fitted_anew_win_together() -> None:
    said = Say.of(NOW, [0.2, 0.1, 0, 0, 0, 0, 0, 0.7]).sentence()
    assert said.startswith("The classifiers that are fitted anew have most of the say (70.0 %) ")


def test_weights_of_other_voters_are_refused() -> None:
    with pytest.raises(ValueError, match="2 weights are none of 3 voters"):
        Say.of(FORMER, [0.5, 0.5])


def test_the_vote_of_an_artifact_is_read_as_data(first_model: FirstModel, tmp_path: Path) -> None:
    model = archive.load_model(
        first_model.path, expected_digest=archive.digest_file(first_model.path)
    )
    assert _vote_of(first_model.path).experts == ()
    columns = np.arange(3)
    experts = tuple(
        Expert(name=name, model=model.base_, columns=columns, night=1)  # type: ignore[attr-defined]
        for name in ('Zebra "quoted"', "Ant")
    )
    changed = model.memory().with_experts(experts, weight=0.5)  # type: ignore[attr-defined]
    path = tmp_path / "changed.skops"
    archive.save_model(model.set_memory(changed), path)  # type: ignore[attr-defined]
    assert _vote_of(path) == StoredVote(
        weights=tuple(changed.vote.tolist()), experts=('Zebra "quoted"', "Ant")
    )
