"""Are the answers that got a label a fair sample of all answers? Where only errors get one, no.

What learns and is judged on errors alone may become worse on everything else without a sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ml_pipeline.evaluation.intervals import wilson_interval
from ml_pipeline.evaluation.sentences import counted, percent

MIN_LABELLED: Final = 30
# With more answers labelled than this, the others cannot make much of a difference.
FULL_COVERAGE: Final = 0.9
FAR_BELOW: Final = 0.1
# Shares of a sample that differ by less are as good as the same.
UNEVEN: Final = 0.1
SURE: Final = 0.99
# Of sure answers not more are right when only errors get a label,
HARDLY_ANY: Final = 0.1
# and where every answer seems to have one, so few only if the others were never logged: a world
# that has turned over leaves more.
HARDLY_ANY_OF_ALL: Final = 0.02
LEAST_PROBABILITY: Final = 0.01
RANDOM_PART: Final = (
    "Label a random part of all answers, right ones as well: a tenth will do, and nobody can tell "
    "otherwise what learning does to them."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerShare:
    """How often an answer was given, and how many of them got a label."""

    answers: int
    labelled: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfidenceShare:
    """Of about how many `answers` from `low` to below `high` sure which share got a label."""

    low: float
    high: float
    answers: int
    labelled: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSample:
    """The answers that were given (UNCERTAIN is none) and what became known of them.

    `answers` counts all, None where only the labelled ones are known; `confidence` is the mean
    over them, in 0..1, None where nobody wrote it down; then `pending` ones have no label, as far
    as that is known. `labelled` have an outcome, of these
    `right` were right. A labelled answer stands for `wrong_weight` or `right_weight` answers.
    `when` says which answers they are.
    """

    when: str
    answers: int | None
    confidence: float | None
    labelled: int
    right: int
    wrong_weight: float = 1.0
    right_weight: float = 1.0
    pending: int | None = None
    by_answer: Mapping[str, AnswerShare] = field(default_factory=dict)
    by_confidence: tuple[ConfidenceShare, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.labelled:
            message = f"{self.right} right answers of {self.labelled} labelled ones cannot be"
            raise ValueError(message)

    @property
    def accuracy(self) -> float:
        """Share of right answers among all for which the labelled ones stand."""
        return self._weighted(self.right / self.labelled) if self.labelled else 0.0

    def _weighted(self, share: float) -> float:
        right, wrong = share * self.right_weight, (1 - share) * self.wrong_weight
        return right / (right + wrong)

    @property
    def coverage(self) -> float | None:
        """Share of the answers that got a label, None where nobody knows."""
        answers = self.answers
        if answers is None and self.pending is not None:
            answers = self.labelled + self.pending
        return self.labelled / answers if answers else None

    @property
    def is_covered(self) -> bool:
        """Whether nearly every answer got a label."""
        return self.coverage is not None and self.coverage >= FULL_COVERAGE

    @property
    def is_nearly_all_errors(self) -> bool:
        """Whether what can be judged on is hardly anything but errors of sure answers."""
        if self.labelled < MIN_LABELLED or self.confidence is None:
            return False
        is_surer = self.confidence > self.accuracy + 2 * FAR_BELOW
        most = HARDLY_ANY_OF_ALL if self.is_covered else HARDLY_ANY
        return self.accuracy <= most and is_surer

    @property
    def is_biased(self) -> bool:
        """Whether labelled answers were right far less often than all were sure.

        The model may be overconfident as well: where most answers get a label, it is that.
        """
        if self.labelled < MIN_LABELLED or self.confidence is None or self.answers is None:
            return False
        most = self._weighted(wilson_interval(self.right, self.labelled, SURE).high)
        return not self.is_covered and most < self.confidence - FAR_BELOW

    def suggestion(self) -> str:
        """What to do: the setting, with numbers, if right answers get labels at all."""
        if self.answers is None or self.confidence is None or self.right == 0:
            return RANDOM_PART
        share = self.right / self.labelled
        coverage = self.labelled / self.answers
        right = coverage * share / self.confidence
        wrong = coverage * (1 - share) / max(1 - self.confidence, LEAST_PROBABILITY)
        top = max(right, wrong, 1.0)
        shown = [max(LEAST_PROBABILITY, round(value / top, 2)) for value in (wrong, right)]
        return (
            f"Label a random part of all answers, or set training.adaptive.label_probability_wrong "
            f"to {shown[0]:g} and label_probability_right to {shown[1]:g}, if the model is as "
            "often right as it is sure."
        )

    def sentence(self) -> str:
        """How the labels came about, in plain words."""
        of = f" of {counted(self.answers, 'answer')}" if self.answers is not None else ""
        known = f"{counted(self.labelled, 'outcome')}{of} {self.when} are known"
        if not self.labelled or self.confidence is None:
            return f"{known}."
        sure = "all answers" if self.answers is not None else "they"
        return (
            f"{known}; {percent(self.accuracy)} of these answers were right, while {sure} were "
            f"{percent(self.confidence)} sure on average."
        )

    def shares(self) -> str:
        """How many of each answer got a label, the commonest answers first."""
        common = sorted(self.by_answer.items(), key=lambda item: -item[1].answers)[:5]
        parts = [f"{name} {percent(s.labelled / s.answers)}" for name, s in common if s.answers]
        return f"Labelled by answer: {', '.join(parts)}." if parts else ""

    def shares_by_confidence(self) -> str:
        """How many answers of each confidence got a label, and what that means where they differ.

        Shares come of a sample; within UNEVEN of one another they are as good as even.
        """
        parts = [
            f"{100 * bin_.low:.0f} to {100 * bin_.high:.0f} % sure {percent(bin_.labelled)}"
            for bin_ in self.by_confidence
        ]
        known = [bin_ for bin_ in self.by_confidence if bin_.answers >= MIN_LABELLED]
        if not known:
            return ""
        counts = f"Labelled by confidence: {', '.join(parts)}."
        least, most = (f(known, key=lambda bin_: bin_.labelled) for f in (min, max))
        if most.labelled - least.labelled < UNEVEN:
            return f"{counts} Sure and unsure answers get labels about alike."
        rarer, oftener = ("Sure", "unsure") if most.low < least.low else ("Unsure", "sure")
        return (
            f"{counts} {rarer} answers get labels less often than {oftener} ones: figures of "
            "labelled answers are not those of all answers."
        )

    def warning(self) -> str | None:
        """What is to be said of it and done about it, if the sample is none of all answers."""
        if not self.is_biased and not self.is_nearly_all_errors:
            return None
        seem = "Wrong answers seem to get labels more often than right ones."
        return " ".join(filter(None, (self.sentence(), seem, self.suggestion())))

    def refusal(self) -> str | None:
        """Why nothing is promoted on it unasked, if so."""
        if not self.is_nearly_all_errors:
            return None
        return (
            f"nearly all results that a model could be judged on are errors: {self.sentence()} "
            f"What does better on errors may do worse on everything else. {self.suggestion()}"
        )

    def all_sentences(self) -> str:
        """All that is to be said of it."""
        parts = (self.warning() or self.sentence(), self.shares(), self.shares_by_confidence())
        return " ".join(filter(None, parts))

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a run's row and its JSON."""
        return {
            "answers": self.answers,
            # Stores add in different orders.
            "confidence": None if self.confidence is None else round(self.confidence, 9),
            "labelled": self.labelled,
            "right": self.right,
            "accuracy": self.accuracy if self.labelled else None,
            "by_answer": {
                name: {"answers": share.answers, "labelled": share.labelled}
                for name, share in self.by_answer.items()
            },
            "by_confidence": [asdict(bin_) for bin_ in self.by_confidence],
            "warning": self.warning(),
            "said": self.all_sentences(),
        }
