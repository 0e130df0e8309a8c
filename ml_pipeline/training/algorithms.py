"""Base algorithms: scikit-learn pipelines built by name, and their cross-validation.

Rows are floats (n, d), or objects (n, d + 1) with a text last (see `features`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.kind import Kind
from ml_pipeline.config.sections import TrainingSettings
from ml_pipeline.datasets.features import Inputs, has_text
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.metrics import evaluate
from ml_pipeline.training.encoding.columns import steps_for
from ml_pipeline.training.heads.newton import softmax
from ml_pipeline.training.parallel import spread

SEED_LITERAL_C = 0.001


def build(
    algorithm: str,
    settings: TrainingSettings,
    rows: Inputs,
    kinds: Sequence[Kind] = (),
    *,
    max_iter: int | None = None,
) -> Any:  # noqa: ANN401 - sklearn is untyped
    """An unfitted pipeline for such rows: impute, standardise, encode, read the text, classify.

    `kinds` are those of the columns, one each; without them all are numbers. With `max_iter`
    boosting makes so many steps of scikit-learn's usual size and trees, which are larger than ours.
    """
    classifier = _classifier(algorithm, settings)
    if max_iter is not None:
        classifier.set_params(max_iter=max_iter, learning_rate=0.1, max_leaf_nodes=31)
    return _before(classifier, rows, kinds)


def _before(classifier: Any, rows: Inputs, kinds: Sequence[Kind]) -> Any:  # noqa: ANN401
    from sklearn.pipeline import Pipeline

    if not has_text(rows):
        return Pipeline([*steps_for(rows, kinds), ("classify", classifier)])
    from ml_pipeline.training.text_features import text_preprocessing

    return Pipeline([*text_preprocessing(rows, kinds), ("classify", classifier)])


def _fitted(pipeline: Any, rows: Inputs, labels: NDArray[Any], **arguments: Any) -> Any:  # noqa: ANN401
    texts = [str(label) for label in labels]
    if not has_text(rows):
        return pipeline.fit(rows, np.asarray(texts), **arguments)
    from threadpoolctl import threadpool_limits

    from ml_pipeline.training.text_features import with_plain_terms

    try:
        # On thousands of sparse columns threads only wait for each other: 100 times the time.
        with threadpool_limits(1, user_api="blas"):
            return with_plain_terms(pipeline.fit(rows, np.asarray(texts), **arguments))
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        message = "None of the training rows' texts holds a word of two letters."
        raise DataError(message, hint="Look at data.text_column.") from None


def _classifier(algorithm: str, settings: TrainingSettings) -> Any:  # noqa: ANN401
    from sklearn import ensemble, linear_model, tree

    seed = settings.random_seed
    if algorithm == "Ensemble":
        return _ensemble(settings)
    builders: Mapping[str, Any] = {
        "LogisticRegression": lambda: linear_model.LogisticRegression(max_iter=1000),
        "SGDClassifier": lambda: linear_model.SGDClassifier(
            loss="log_loss", max_iter=1000, random_state=seed
        ),
        "DecisionTree": lambda: tree.DecisionTreeClassifier(min_samples_leaf=20, random_state=seed),
        "RandomForest": lambda: ensemble.RandomForestClassifier(
            n_estimators=100, min_samples_leaf=5, random_state=seed
        ),
        "HistGradientBoosting": lambda: ensemble.HistGradientBoostingClassifier(
            max_iter=100,
            learning_rate=0.05,
            max_leaf_nodes=15,
            # Its own hold-out fails on a class of one row.
            early_stopping=False,
            random_state=seed,
        ),
    }
    return builders[algorithm]()


def _ensemble(settings: TrainingSettings) -> Any:  # noqa: ANN401
    from sklearn.ensemble import VotingClassifier

    members = [(name, _classifier(name, settings)) for name in settings.ensemble]
    return VotingClassifier(members, voting="soft", weights=settings.ensemble_weights)


def fit(  # noqa: PLR0913 - rows, their labels, weights and kinds, and choices
    algorithm: str,
    features: Inputs,
    labels: NDArray[Any],
    settings: TrainingSettings,
    *,
    weights: NDArray[np.float64] | None = None,
    kinds: Sequence[Kind] = (),
    max_iter: int | None = None,
) -> Any:  # noqa: ANN401
    """Fit a base on features (n, d) and labels (n,); `kinds` and `max_iter` as in `build`.

    Raises DataError when there are fewer than two classes: nothing can be told apart.
    """
    found = sorted({str(label) for label in labels})
    if len(found) < 2:  # noqa: PLR2004 - two things to tell apart
        message = f"The training rows hold only {len(found)} class: {', '.join(found) or 'none'}."
        raise DataError(message, hint="A classifier needs rows of at least two classes.")
    arguments = {} if weights is None else {"classify__sample_weight": weights}
    unfitted = build(algorithm, settings, features, kinds, max_iter=max_iter)
    return _fitted(unfitted, features, labels, **arguments)


def fit_seed_literal(features: Inputs, labels: NDArray[Any], kinds: Sequence[Kind] = ()) -> Any:  # noqa: ANN401
    """The original documents' recipe: a fresh regression with the learning rate as `C`."""
    from sklearn.linear_model import LogisticRegression

    if len({str(label) for label in labels}) < 2:  # noqa: PLR2004
        raise DataError(
            "The error samples hold only one class: strategy errors_only cannot be fitted.",
            hint="Use training.strategy: adaptive.",
        )
    classifier = LogisticRegression(C=SEED_LITERAL_C, max_iter=1000)
    return _fitted(_before(classifier, features, kinds), features, labels)


def fit_sgd(  # noqa: PLR0913 - data, rate, passes and seed
    base: Any,  # noqa: ANN401
    features: NDArray[np.float64],
    codes: NDArray[np.int64],
    *,
    learning_rate: float,
    epochs: int,
    seed: int,
) -> Any:  # noqa: ANN401
    """Constant-step stochastic descent on the log loss from a linear base's coefficients.

    `codes` (n,) are positions in the base's classes. Raises DataError when the base is not linear.
    """
    from copy import deepcopy

    tuned = deepcopy(base)
    classifier = tuned.steps[-1][1]
    if not hasattr(classifier, "coef_"):
        message = f"Strategy sgd needs a linear base, not {type(classifier).__name__}."
        raise DataError(message, hint="Use training.strategy: adaptive, which takes any base.")
    rows = np.asarray(tuned[:-1].transform(features), dtype=np.float64)
    binary = classifier.coef_.shape[0] == 1
    one_versus_rest = binary or type(classifier).__name__ == "SGDClassifier"
    targets = np.eye(len(classifier.classes_))[codes]
    targets = targets[:, 1:] if binary else targets
    coef, intercept = classifier.coef_.copy(), classifier.intercept_.copy()
    order = np.random.default_rng(seed)
    for _ in range(epochs):
        for index in order.permutation(len(rows)):
            scores = coef @ rows[index] + intercept
            push = _link(scores, one_versus_rest=one_versus_rest) - targets[index]
            coef -= learning_rate * np.outer(push, rows[index])
            intercept -= learning_rate * push
    classifier.coef_, classifier.intercept_ = coef, intercept
    return tuned


def _link(scores: NDArray[np.float64], *, one_versus_rest: bool) -> NDArray[np.float64]:
    if one_versus_rest:
        return np.asarray(1 / (1 + np.exp(-np.clip(scores, -500, 500))), dtype=np.float64)
    return softmax(scores)


def cross_validate(
    algorithm: str,
    features: Inputs,
    labels: NDArray[Any],
    settings: TrainingSettings,
    kinds: Sequence[Kind] = (),
) -> dict[str, Any]:
    """Stratified cross-validation: mean and deviation of accuracy and log loss over folds.

    Folds shrink with the rarest class; a class of one row is always trained on, never tested.
    Without a class of two rows nothing can be validated and `folds` is 0.
    """
    from sklearn.model_selection import StratifiedKFold

    texts = np.asarray([str(label) for label in labels])
    names, counts = np.unique(texts, return_counts=True)
    testable = np.flatnonzero(np.isin(texts, names[counts > 1]))
    folds = min(settings.cv_folds, int(counts[counts > 1].min(initial=settings.cv_folds)))
    if len(testable) < 2 * folds or len(names) < 2:  # noqa: PLR2004
        return {"folds": 0}
    alone = np.setdiff1d(np.arange(len(texts)), testable)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=settings.random_seed)

    def scored(places: tuple[NDArray[np.intp], NDArray[np.intp]]) -> tuple[float, float]:
        train, test = places
        fitted_on = np.concatenate([testable[train], alone])
        model = fit(algorithm, features[fitted_on], texts[fitted_on], settings, kinds=kinds)
        return _score(model, features[testable[test]], texts[testable[test]], names)

    scores = list(spread(scored, list(splitter.split(testable, texts[testable]))))
    accuracies, losses = zip(*scores, strict=True)
    return {
        "folds": folds,
        "accuracy": float(np.mean(accuracies)),
        "accuracy_std": float(np.std(accuracies)),
        "log_loss": float(np.mean(losses)),
        "log_loss_std": float(np.std(losses)),
    }


def _score(
    model: Any,  # noqa: ANN401
    features: Inputs,
    labels: NDArray[Any],
    names: NDArray[Any],
) -> tuple[float, float]:
    probabilities = np.asarray(model.predict_proba(features), dtype=np.float64)
    report = evaluate(labels, probabilities, [str(name) for name in names], ordered=False)
    return report.accuracy, report.log_loss
