"""Models that read a text: fitted, taken on night by night, stored, and scored from their file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from datetime import date
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.datasets import texts
from ml_pipeline.datasets.dataset import Dataset, from_frame, read_csv
from ml_pipeline.datasets.drift import inputs as drift_inputs
from ml_pipeline.datasets.features import Inputs, content, joined, parted, read_rows
from ml_pipeline.datasets.reference import reference_of
from ml_pipeline.datasets.texts import STATISTICS
from ml_pipeline.errors import ArtifactCorrupt, DataError, InputError
from ml_pipeline.registry import archive, scoring
from ml_pipeline.registry.scoring_writer import scoring_bytes
from ml_pipeline.registry.trained import Sample
from ml_pipeline.serving.artifact import ArtifactScorer, BatchScorer
from ml_pipeline.store.serving_view import ServedModel
from ml_pipeline.training import algorithms, strategies
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.encoding.columns import head_columns
from ml_pipeline.training.encoding.text_columns import COMPONENTS, MOST_TERMS
from ml_pipeline.training.heads.inputs import HeadInputs
from ml_pipeline.training.learned_rows import Champion
from ml_pipeline.training.online.rows import nightly_rows
from ml_pipeline.training.online.shadow_base import base_in_shadow
from ml_pipeline.training.online_model import OnlineState, take_day
from ml_pipeline.training.online_training import adapt
from ml_pipeline.training.strategies import new_model
from tests.support.properties import tries
from tests.support.scorers import scorers
from tests.support.served import loaded_by_scoring

ALGORITHMS = ("LogisticRegression", "SGDClassifier", "DecisionTree", "RandomForest", "Ensemble")
MIXED = Settings().changed(
    {
        "data.features": ["a", "b"],
        "data.text_column": "query",
        "data.target": "label",
        "data.classes": ["EASY", "MEDIUM", "HARD"],
        "training.ensemble": ["LogisticRegression", "DecisionTree"],
    }
)
LETTERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)


@lru_cache
def examples() -> pd.DataFrame:
    with as_file(files("ml_pipeline") / "data" / "router_prompts.csv") as path:
        return read_csv(path)


def rows_of(config: Settings) -> Dataset:
    """The example's prompts, with random numbers beside them where the config wants some."""
    frame = examples().copy()
    random = np.random.default_rng(0)
    for name in config.data.features:
        frame[name] = [f"{value:.6g}" for value in random.normal(size=len(frame))]
        frame.loc[::11, name] = ""
    return from_frame(frame, config.data, source="the example")


@lru_cache
def example(algorithm: str, *, with_numbers: bool = False) -> AdaptiveClassifier:
    config = MIXED if with_numbers else MIXED.changed({"data.features": []})
    data = rows_of(config)
    base = algorithms.fit(algorithm, data.features, data.labels, config.training)
    model = new_model(base, data.features, ["EASY", "MEDIUM", "HARD"], config)
    return model.partial_fit(data.features[:60], data.labels[:60])


def served(scorer: scoring.Scorer) -> BatchScorer:
    model = ServedModel(
        model_id="m", algorithm="", state="champion", created_at="", threshold=0.5,
        metrics={}, scoring=None, calibration=None,
    )  # fmt: skip
    return BatchScorer(scorer=scorer, served=model, load=lambda: pytest.fail("not needed"))


@pytest.mark.parametrize("with_numbers", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_scoring_file_says_what_predict_proba_says(
    algorithm: str,
    with_numbers: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    model = example(algorithm, with_numbers=with_numbers)
    scorer = scoring.parse(scoring_bytes(model))
    assert scorer.text_column == "query"
    rows = rows_of(MIXED if with_numbers else MIXED.changed({"data.features": []})).features[:40]
    numbers, asked = parted(rows)
    assert asked is not None
    scored = [scorer.probabilities(v, t) for v, t in zip(numbers.tolist(), asked, strict=True)]
    assert np.abs(np.asarray(scored) - model.predict_proba(rows)).max() < 1e-9
    votes = (
        ArtifactScorer(model).members(numbers[0].tolist(), asked[0])
        if algorithm == "Ensemble"
        else []
    )
    for ours, theirs in zip(votes, scorer.members(numbers[0].tolist(), asked[0]), strict=True):
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-9)


@settings(max_examples=tries(15), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    text=LETTERS.filter(lambda text: text.strip()),
    seed=st.sampled_from(["", "How do I ", "Prove "]),
)
def test_any_text_is_scored_alike_by_file_and_artifact(text: str, seed: str) -> None:
    model = example("LogisticRegression")
    scorer, artifact = scoring.parse(scoring_bytes(model)), ArtifactScorer(model)
    assert scorer.probabilities([], seed + text) == pytest.approx(
        artifact.probabilities([], seed + text), abs=1e-9
    )


def test_a_text_is_scored_without_the_large_libraries(tmp_path: Path) -> None:
    content = scoring_bytes(example("LogisticRegression"))
    assert loaded_by_scoring(content, [], "What is the capital of Norway?", tmp_path) == ""


def changed(change: dict[str, Any], coefficient: float) -> bytes:
    """A scoring file of texts with other terms, or with another coefficient of its last term."""
    content = scoring_bytes(example("LogisticRegression"))
    line, _, arrays = content.partition(b"\n")
    header, flat = json.loads(line), bytearray(arrays)
    header["base"]["steps"][0] |= change
    _, start, _ = header["base"]["last"]["coef"][0]
    np.frombuffer(flat, dtype="<f8", offset=start, count=5000)[4999] = coefficient
    return json.dumps(header).encode() + b"\n" + bytes(flat)


@pytest.mark.parametrize(
    ("change", "coefficient"),
    [
        ({"terms": ["twice", "twice"], "idf": ["d", 0, 2]}, 0.0),
        ({"terms": ["one", "two"]}, 0.0),
        ({"terms": ["one", "two"], "idf": ["d", 0, 2]}, 0.0),
        ({"terms": "one"}, 0.0),
        ({}, float("nan")),
        ({}, float("-inf")),
    ],
)
def test_terms_that_do_not_fit_their_weights_are_refused_at_once(
    change: dict[str, Any], coefficient: float
) -> None:
    scoring.parse(changed({}, 0.0))
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        scoring.parse(changed(change, coefficient))


def test_terms_and_scales_are_learned_from_the_training_rows_alone() -> None:
    config = MIXED.changed({"data.features": []})
    data = rows_of(config)
    odd = data.features.copy()
    odd[-1, -1] = "zyzzyva " * 50
    times = pd.Series(pd.date_range("2026-01-01", periods=len(data), tz="UTC"))
    held = Dataset(features=odd, labels=data.labels, times=times, groups=None,
                   frame=data.frame, source="")  # fmt: skip
    trained = strategies.train_base(held, config, algorithm="LogisticRegression")
    terms = trained.model.base_.named_steps["read"].named_transformers_["terms"]
    assert "zyzzyva" not in terms.vocabulary_
    assert len(terms.vocabulary_) == 5000
    assert max(term.count(" ") for term in terms.vocabulary_) == 2
    everything = algorithms.fit("LogisticRegression", odd, data.labels, config.training)
    assert "zyzzyva" in everything.named_steps["read"].named_transformers_["terms"].vocabulary_


def test_a_model_that_reads_a_text_is_stored_and_loaded_as_it_was(tmp_path: Path) -> None:
    model = example("LogisticRegression", with_numbers=True)
    rows = rows_of(MIXED).features[:50]
    path = tmp_path / "model.skops"
    archive.save_model(model, path)
    loaded: Any = archive.load_model(path, expected_digest=archive.digest_file(path))
    assert (loaded.predict_proba(rows) == model.predict_proba(rows)).all()
    assert (loaded.text_column_, loaded.n_features_in_) == ("query", 2)
    assert path.stat().st_size < 2_000_000
    fresh = copy(model).set_memory(model.fresh_memory())  # of which the text is the most
    archive.save_model(fresh, path)
    assert path.stat().st_size < 500_000
    Sample(features=rows, probabilities=model.predict_proba(rows)).save(tmp_path / "sample.npz")
    sample = Sample.load(tmp_path / "sample.npz")
    assert content(sample.features) == content(rows)
    values, text = next(sample.rows())
    assert values == pytest.approx(rows[0, :2].tolist(), nan_ok=True)
    assert text == rows[0, 2]


def test_heads_see_components_and_statistics_of_a_text_and_its_companions() -> None:
    model, data = example("LogisticRegression", with_numbers=True), rows_of(MIXED)
    seen = 2 + COMPONENTS + len(STATISTICS) + 2 + 1
    assert [heads.shape[1:] for heads in model.heads_] == [
        (seen + further, 2) for further in (0, 28, 40)
    ]
    inputs = model.inputs_()
    assert inputs.loadings is not None
    assert len(inputs.terms.split("\n")) == len(inputs.loadings) == MOST_TERMS
    of_rows = model.seen(data.features, model.base_proba(data.features)).inputs[0]
    assert of_rows[:, 2:-3].mean(axis=0) == pytest.approx(0, abs=0.1)
    again = AdaptiveClassifier(model.base).adopt(model.base_, data.features, list(model.classes_))
    loadings = again.inputs_().loadings
    assert loadings is not None
    assert np.array_equal(loadings, inputs.loadings)


def _without_components(model: AdaptiveClassifier, rows: Inputs) -> AdaptiveClassifier:
    """As models were before heads saw anything of a text."""
    base = model.base_proba(rows)
    numbers = head_columns(model.base_, rows)
    before = HeadInputs.fitted(numbers, base, 0, sees_numbers=False)
    plain = {n: v for n, v in before.as_dict().items() if n not in {"terms", "loadings"}}
    former = copy(model)
    former.head_inputs_ = plain
    return former.set_memory(former.fresh_memory())


def test_a_text_model_whose_heads_see_its_probabilities_alone_goes_on() -> None:
    data = rows_of(MIXED)
    rows, rolled = data.features, np.roll(data.labels, 1)
    model = _without_components(example("LogisticRegression", with_numbers=True), rows)
    assert {heads.shape[1:] for heads in model.heads_} == {(2 + 1, 2)}
    before = model.predict_proba(rows)
    for _ in range(3):
        model.partial_fit(rows, rolled)
    actual = [list(model.classes_).index(label) for label in rolled]
    chosen = np.arange(len(rolled)), actual
    assert np.log(model.predict_proba(rows)[chosen]).mean() > np.log(before[chosen]).mean()
    numbers, asked = parted(rows[:20])
    for scorer in scorers(scoring_bytes(model)):
        pairs = zip(numbers.tolist(), asked or (), strict=True)
        scored = [scorer.probabilities(values, text) for values, text in pairs]
        assert np.abs(np.asarray(scored) - model.predict_proba(rows[:20])).max() < 1e-9


TOPICS = ("printer paper tray jam", "invoice payment refund bank", "login password account reset",
          "parcel courier delivery street")  # fmt: skip


def _tickets(seed: int, count: int, teams: Sequence[str]) -> tuple[Inputs, Inputs]:
    """Tickets of four topics, and the team that each topic goes to."""
    random = np.random.default_rng(seed)
    topics = random.integers(len(TOPICS), size=count)
    written = [" ".join(random.choice(TOPICS[topic].split(), 6)) for topic in topics]
    return joined(np.empty((count, 0)), written), np.asarray(teams)[topics]


def test_heads_learn_that_a_topic_now_goes_to_another_team() -> None:
    before, after = ("A", "A", "B", "B"), ("A", "B", "B", "A")
    first, teams = _tickets(0, 200, before)
    base = algorithms.fit("LogisticRegression", first, teams, MIXED.training)
    model = AdaptiveClassifier().adopt(base, first)
    blind = _without_components(model, first)
    rows, labels = _tickets(9, 200, after)
    for night in range(1, 5):
        for one in (model, blind):
            one.partial_fit(*_tickets(night, 60, after))
    right = [(one.predict(rows) == labels).mean() for one in (model, blind)]
    assert right[0] > 0.95
    assert right[1] < 0.75


@pytest.mark.parametrize("with_numbers", [False, True])
def test_every_strategy_but_sgd_learns_rows_with_a_text(with_numbers: bool) -> None:  # noqa: FBT001
    config = MIXED if with_numbers else MIXED.changed({"data.features": []})
    data = rows_of(config)
    count = len(data)
    days = pd.to_timedelta(np.arange(count) // 45, unit="D")
    frame = data.frame.assign(
        event_id=[f"e{n:03}" for n in range(count)],
        prediction="EASY",
        is_error=["true" if n % 4 == 0 else "false" for n in range(count)],
    )
    log = Dataset(features=data.features, labels=data.labels, groups=None, frame=frame, source="",
                  times=pd.Series(pd.Timestamp("2026-03-01", tz="UTC") + days))  # fmt: skip
    first, rest, today = log.take(np.arange(90)), log.take(np.arange(90, count)), date(2026, 3, 6)
    base = strategies.train_base(first, config, algorithm="LogisticRegression").model
    champion = Champion(model_id="m", model=base)

    learned = adapt(base, champion, [rest], today, config)
    assert (learned.rows_learned, len(learned.evidence)) == (count - 90, count - 90)
    refit = strategies.refit(rest, champion, config, algorithm="RandomForest")
    literal = strategies.errors_only(rest, champion, config)
    assert len(refit.evidence) == len(literal.evidence) == 31
    shadow = base_in_shadow(log, base, date(2026, 3, 5), config, carry_heads=True)
    assert shadow.rows_learned == 180
    assert shadow.model.inputs_().terms == base.inputs_().terms
    assert shadow.model.base_.named_steps["read"] is not base.base_.named_steps["read"]
    night = adapt(shadow.model, champion, [rest], today, config, other_base=True)
    assert night.evidence.champion is not None


def test_rows_that_wait_keep_their_texts_in_the_artifact(tmp_path: Path) -> None:
    model = example("LogisticRegression", with_numbers=True)
    data = rows_of(MIXED)
    config = MIXED.training.adaptive
    frame = data.frame.assign(event_id=[f"e{n:03}" for n in range(len(data))])
    times = pd.Series(pd.to_datetime(["2026-03-01"] * len(data), utc=True))
    dated = Dataset(features=data.features, labels=data.labels, times=times, groups=None,
                    frame=frame, source="")  # fmt: skip
    _, rows = nightly_rows(dated.take(np.arange(5)), model, config)
    state = take_day(OnlineState.fresh(model), 1, rows)
    model.line_ = state.as_dict()
    path = tmp_path / "model.skops"
    archive.save_model(model, path)
    loaded: Any = archive.load_model(path, expected_digest=archive.digest_file(path))
    again = OnlineState.from_dict(loaded.line_)
    assert content(again.waiting.features) == content(rows.features)
    assert again.held.features.shape == (0, 3)
    assert take_day(again, 2, rows).rows_digest == take_day(state, 2, rows).rows_digest
    model.line_ = None


def test_a_digest_takes_the_texts_in() -> None:
    numbers = np.zeros((2, 1))
    assert content(joined(numbers, ["ab", "c"])) != content(joined(numbers, ["a", "bc"]))
    assert content(joined(numbers, None)) == numbers.tobytes()


def test_texts_without_a_word_are_refused_in_training() -> None:
    rows = joined(np.empty((4, 0)), ["?", "👍", "!", "a b"])
    with pytest.raises(DataError, match="holds a word of two letters"):
        algorithms.fit("LogisticRegression", rows, np.array(["x", "y", "x", "y"]), MIXED.training)


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        (["fine", "", " \n"], r"query is empty in row 2, 3 \(2 such rows\)"),
        (
            ["fine", "x" * 1_048_576],
            "query has 1048576 characters, at most 100000 are read in row 2",
        ),
        (["a\0b"], "query holds a NUL character in row 1"),
    ],
)
def test_unusable_texts_are_refused_with_their_rows(cells: list[str], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        read_rows(pd.DataFrame({"query": cells}), [], "query")


def test_a_missing_text_column_is_named() -> None:
    with pytest.raises(DataError, match="text column query is missing"):
        read_rows(pd.DataFrame({"text": ["a"]}), [], "query")


def test_labels_in_another_case_are_the_same_labels() -> None:
    frame = pd.DataFrame({"query": ["a", "b", "c"], "label": ["easy", "Hard", " MEDIUM "]})
    config = MIXED.changed({"data.features": []})
    data = from_frame(frame, config.data, source="")
    assert data.labels.tolist() == ["EASY", "HARD", "MEDIUM"]
    apart = config.changed({"data.classes": ["a", "A"], "data.labels": {"b": "A"}})
    folded = from_frame(frame.assign(label=["A", "a", "B"]), apart.data, source="")
    assert folded.labels.tolist() == ["A", "a", "A"]


def test_a_bad_text_among_many_gets_its_error_and_the_rest_goes_on() -> None:
    model = example("LogisticRegression")
    given_texts = ["What is 2 + 2?", "\n", "x" * 100_001, "Prove it."]
    for scorer in (ArtifactScorer(model), scoring.parse(scoring_bytes(model))):
        shares, faults = served(scorer).score(np.empty((4, 0)), given_texts)
        assert faults == {
            1: "The text (query) is empty.",
            2: "The text (query) has 100001 characters, at most 100000 are read.",
        }
        alone = [scorer.probabilities([], given_texts[place]) for place in (0, 3)]
        assert shares[[0, 3]].tolist() == [pytest.approx(answered) for answered in alone]


def test_a_model_asked_with_the_wrong_kind_of_input_says_what_it_reads() -> None:
    scorer = scoring.parse(scoring_bytes(example("LogisticRegression")))
    with pytest.raises(InputError, match=r"reads a text \(query\), and none was given"):
        scorer.probabilities([])
    base = algorithms.fit("LogisticRegression", np.eye(2), np.array(["x", "y"]), MIXED.training)
    plain = scoring.parse(scoring_bytes(AdaptiveClassifier(base).adopt(base, np.eye(2))))
    with pytest.raises(InputError, match="reads no text"):
        plain.probabilities([1.0, 2.0], "how?")


def test_texts_that_have_become_others_have_drifted() -> None:
    frame = examples()
    written = joined(np.empty((len(frame), 0)), frame["query"].tolist())
    reference = json.loads(json.dumps(reference_of(written, [], "query")))

    def moved(answered: list[str]) -> dict[str, float]:
        events = pd.DataFrame({"features": [json.dumps({"query": text}) for text in answered]})
        events["prediction"] = "EASY"
        found = drift_inputs.input_drift(reference, events)
        return {drift.column: drift.psi for drift in found}

    same = moved(frame["query"].tolist())
    assert same.keys() == {f"query {name}" for name in texts.STATISTICS}
    assert max(same.values()) == pytest.approx(0, abs=1e-9)
    hard = moved(frame["query"][frame["label"] == "HARD"].tolist() * 3)
    assert hard["query length"] > 0.25
    by_name = pd.DataFrame({"query": frame["query"], "prediction": "EASY"})
    assert len(drift_inputs.input_drift(reference, by_name)) == len(same)


def test_the_example_states_what_it_needs_and_nothing_that_is_unknown() -> None:
    with as_file(files("ml_pipeline") / "data" / "router.yaml") as path:
        config = load_settings(path, environment={})
    assert config.data.inputs == ["query"]
    assert config.model_name == "router"
    frame = examples()
    assert frame["label"].value_counts().to_dict() == {"EASY": 86, "HARD": 86, "MEDIUM": 72}
    assert not frame["query"].duplicated().any()
