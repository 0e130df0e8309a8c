"""The adaptive champion: a base that never changes, and small heads that forget at set speeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from ml_pipeline.datasets.features import Inputs, parted
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.metrics import Floats, encode
from ml_pipeline.training.encoding.columns import head_columns, takes_numbers
from ml_pipeline.training.encoding.text_columns import TextComponents, text_components
from ml_pipeline.training.heads.inputs import HeadInputs, spread_of
from ml_pipeline.training.heads.memory import Expert, Memory, Seen, in_order
from ml_pipeline.training.heads.newton import Lesson
from ml_pipeline.training.heads.rates import Rates


class AdaptiveClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted base with adaptive heads, after scikit-learn's conventions.

    Rows are floats (n, d), or objects (n, d + 1) with a text last; `n_features_in_` is d.

    Fitting trains the base; `partial_fit` learns one night. The nightly loop keeps its bookkeeping
    in `line_` (see `online_model`), so that the artifact carries its own high-water mark.
    """

    # The name that saved models carry, so that every version loads those of every other.
    __module__ = "ml_pipeline.adaptive"

    # Models that were saved before there were texts have none.
    reads_text_ = False
    text_column_: str | None = None
    # The summary of the base's inputs, see `datasets.reference`; earlier models hold none.
    reference_: Mapping[str, Any] | None = None
    # And those that were saved before there were experts none of these.
    experts_: Sequence[Mapping[str, Any]] = ()

    # Those of before there were families of heads see what `HeadInputs.former` says.
    head_inputs_: Mapping[str, Any] | None = None
    heard_: Sequence[str] = ()
    random_state = 0

    def __init__(
        self,
        base: Any = None,  # noqa: ANN401
        rates: Mapping[str, Any] | None = None,
        random_state: int = 0,
    ) -> None:
        self.base = base
        self.rates = rates
        self.random_state = random_state

    # scikit-learn's names for the data are X and y.
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Fit a clone of `base` on rows and labels (n,)."""
        return self.adopt(clone(self.base).fit(X, y), X)

    def adopt(
        self,
        fitted: Any,  # noqa: ANN401
        X: ArrayLike,  # noqa: N803
        classes: Sequence[str] | None = None,
        *,
        heard: Sequence[str] = (),
    ) -> Self:
        """Take an already fitted base; `X` are the rows it was fitted on.

        `classes` is the model's class set and order when it is wider than what the base has seen,
        `heard` names the experts that the heads hear, see `Memory`.
        """
        rows, texts = parted(np.asarray(X))
        known = [str(label) for label in fitted.classes_]
        self.base_ = fitted
        self.classes_ = np.asarray([*(classes or known)])
        self.base_columns_ = encode(np.asarray(known), self.classes_)
        self.n_features_in_ = rows.shape[1]
        self.reads_text_ = texts is not None
        self.feature_names_: list[str] = []
        self.text_column_: str | None = None
        self.mean_, self.scale_ = spread_of(rows)
        text = TextComponents.fitted(fitted, np.asarray(X))
        seen = HeadInputs.fitted(
            _numbers(fitted, np.asarray(X), text),
            self.base_proba(X),
            self.random_state,
            sees_numbers=texts is None or text is not None,
            text=None if text is None else (text.terms, text.loadings),
        )
        self.head_inputs_ = seen.as_dict()
        self.heard_: Sequence[str] = list(heard)
        self.set_memory(self.fresh_memory())
        self.line_: dict[str, Any] | None = None
        return self

    def rates_(self) -> Rates:
        """The settings as a record."""
        usual = {} if self.head_inputs_ is None else {"families": Rates().families}
        return Rates.of({**usual, **(self.rates or {})})

    def plain_rates(self) -> dict[str, Any]:
        """The settings by which the heads learn, plain; see `rates.changed_rates`."""
        plain = self.rates_().as_dict()
        if self.head_inputs_ is None:
            del plain["families"]
        return plain

    def inputs_(self) -> HeadInputs:
        """What the heads see."""
        if self.head_inputs_ is not None:
            return HeadInputs.from_dict(self.head_inputs_)
        sees_numbers = by_family(self.heads_)[0].shape[1] != len(self.classes_) + 1
        return HeadInputs.former(self.mean_, self.scale_, sees_numbers=sees_numbers)

    def fresh_memory(self) -> Memory:
        """Heads that have learned nothing and equal the base."""
        inputs, rates, n_classes = self.inputs_(), self.rates_(), len(self.classes_)
        columns = inputs.columns(n_classes)
        widths = [inputs.width(family, n_classes) for family in rates.families]
        return Memory.fresh(widths, columns, rates, self.heard_)

    def memory(self) -> Memory:
        """The heads that serve."""
        return Memory(
            heads=by_family(self.heads_),
            precisions=None if self.precisions_ is None else by_family(self.precisions_),
            vote=self.vote_,
            last_night=self.last_night_,
            experts=tuple(Expert(**expert) for expert in self.experts_),
            heard=tuple(self.heard_),
        )

    def set_memory(self, memory: Memory) -> Self:
        """Serve these heads and experts."""
        self.heads_: Any = list(memory.heads)
        self.precisions_: Any = None if memory.precisions is None else list(memory.precisions)
        self.vote_ = memory.vote
        self.last_night_ = memory.last_night
        self.experts_ = [expert.as_dict() for expert in memory.experts]
        return self

    def take_heads_of(self, other: AdaptiveClassifier) -> Self:
        """Serve the heads of another model, and let them see what they saw there.

        Raises DataError for a model of other inputs or classes.
        """
        mine, theirs = (
            (list(m.feature_names_), m.n_features_in_, m.reads_text_, m.classes_.tolist())
            for m in (self, other)
        )
        if mine != theirs or not takes_numbers(self.base_):
            raise DataError(
                "The champion's heads are of other inputs or classes than the new base."
            )
        self.rates, self.head_inputs_ = other.rates, other.head_inputs_
        self.heard_ = other.heard_
        if self.head_inputs_ is None:
            self.mean_, self.scale_ = other.mean_, other.scale_
        return self.set_memory(other.memory())

    def base_proba(self, X: ArrayLike) -> Floats:  # noqa: N803
        """Probabilities (n, K) of the base alone."""
        check_is_fitted(self, "base_")
        if not len(np.asarray(X)):
            return np.empty((0, len(self.classes_)))
        return in_order(self.base_.predict_proba(X), self.base_columns_, len(self.classes_))

    def seen(self, X: ArrayLike, base: Floats) -> Seen:  # noqa: N803
        """Rows as the heads see them; `base` (n, K) are the base's probabilities."""
        inputs, rows = self.inputs_(), np.asarray(X)
        numbers = _numbers(self.base_, rows, text_components(inputs.terms, inputs.loadings))
        seen = inputs.of(numbers, base, self.rates_().families)
        return Seen(rows=rows, base=base, inputs=seen)

    def predict_proba(self, X: ArrayLike) -> Floats:  # noqa: N803
        """Probabilities (n, K) in the order of `classes_`."""
        base = self.base_proba(X)
        if not len(base):
            return base
        memory = self.memory()
        return memory.vote_on(memory.opinions(self.seen(X, base)))

    def predict(self, X: ArrayLike) -> NDArray[np.str_]:  # noqa: N803
        """The most probable label of each row."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def partial_fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Learn one night's rows. Raises DataError for a label the base does not know."""
        memory = self.memory()
        opinions = memory.opinions(self.seen(X, self.base_proba(X)))
        actual = encode(np.asarray(y), self.classes_)
        lesson = Lesson(
            inputs=opinions.inputs,
            actual=actual,
            weights=np.ones(len(actual)),
            opinions=opinions.shares,
        )
        night = 1 if memory.last_night is None else memory.last_night + 1
        return self.set_memory(memory.learn(lesson, night, self.rates_()))


def _numbers(base: Any, rows: Inputs, text: TextComponents | None) -> Floats:  # noqa: ANN401
    """What heads see of rows, before it is standardised: a text's numbers first."""
    numbers = head_columns(base, rows)
    return numbers if text is None else np.hstack([text.of(base, rows), numbers])


def by_family(kept: Any) -> tuple[Floats, ...]:  # noqa: ANN401 - an array, or arrays
    """Heads or curvatures as a model keeps them; one of before has an array of one family."""
    return (kept,) if isinstance(kept, np.ndarray) else tuple(kept)
