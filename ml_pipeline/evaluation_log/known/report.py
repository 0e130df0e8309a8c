"""What a load of the log made of every row."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError, StoreCorrupt
from ml_pipeline.evaluation_log.feature_rules import inputs_hint
from ml_pipeline.evaluation_log.fold import NO_CLASS, UNUSABLE
from ml_pipeline.evaluation_log.incumbent.answers import NO_ANSWER
from ml_pipeline.evaluation_log.rules import UNKNOWN_OUTCOME

REASONS_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadReport:
    """What every row of the log became.

    `outside`: outcomes known outside the time to learn; old errors among them still count as
    errors. `labelled` rows are learned, but for the `unusable` ones among them, which have no
    features to learn from or an outcome that the model does not know. `reasons` counts bad and
    unusable rows, `examples` names an event for each reason where one is known; the bad ones stand
    in the file at `rejects_path`, the unusable ones in that at `unusable_path`.
    """

    source: str
    rows: int
    bad: int
    folded: int
    other_model: int
    pending: int
    outside: int
    labelled: int
    unusable: int
    errors: int
    reasons: dict[str, int]
    rejects_path: str | None
    examples: dict[str, str] = field(default_factory=dict)
    unusable_path: str | None = None

    def __post_init__(self) -> None:
        parts = ("bad", "folded", "other_model", "pending", "outside", "labelled")
        counted = sum(getattr(self, part) for part in parts)
        if counted != self.rows:
            numbers = ", ".join(f"{part} {getattr(self, part)}" for part in parts)
            raise StoreCorrupt(
                f"The rows of {self.source} do not add up: {numbers} make {counted}, "
                f"not {self.rows}.",
                hint="The log changed while it was read, or this is a fault of the program.",
            )

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self)

    def unusable_words(self) -> str:
        """What is wrong with the rows that cannot be learned, each fault with an event for it."""
        found = {
            reason: count for reason, count in self.reasons.items() if reason.startswith(UNUSABLE)
        }
        shown = [
            f"{reason.removeprefix(UNUSABLE)} ({count}, for example event {self.examples[reason]})"
            for reason, count in list(found.items())[:REASONS_SHOWN]
        ]
        return ", ".join(shown)

    @property
    def of_new_classes(self) -> int:
        """Rows of a class that the model does not know: they wait for one that does."""
        return self.reasons.get(UNUSABLE + NO_CLASS, 0)

    def of_no_class(self) -> str:
        """That outcomes were set aside whose class nobody has named, as a sentence; '' for none."""
        count = self.reasons.get(UNKNOWN_OUTCOME, 0)
        if not count:
            return ""
        example = self.examples.get(UNKNOWN_OUTCOME)
        shown = "" if example is None else f" (for example that of event {example})"
        results = "1 result has" if count == 1 else f"{count:,} results have"
        return (
            f"{results} an outcome that is no class{shown}: name a new class in data.classes, and "
            "the class of another spelling in data.labels."
        )

    @property
    def unanswered(self) -> int:
        """Rows of which nobody knows what the incumbent answered that is to be corrected."""
        return self.reasons.get(UNUSABLE + NO_ANSWER, 0)

    @property
    def faulty(self) -> int:
        """Rows that cannot be learned because something is wrong with them."""
        return self.unusable - self.of_new_classes - self.unanswered

    def is_usable(self, settings: Settings) -> bool:
        """Whether few enough rows cannot be learned.

        Those of new classes wait and do not count, nor do those without an incumbent's answer: they
        are logged as they should be.
        """
        return self.faulty <= 1 or self.faulty / self.labelled <= settings.log.max_bad_rows

    def require_usable(self, settings: Settings) -> None:
        """Raise DataError when too much cannot be learned; a single row is only set aside."""
        faulty = self.faulty
        if self.is_usable(settings):
            return
        raise DataError(
            f"{faulty} of {self.labelled} results to learn from {self.source} cannot be "
            f"learned ({faulty / self.labelled:.1%}, log.max_bad_rows allows "
            f"{settings.log.max_bad_rows:.1%}): {self.unusable_words()}.",
            hint=f"Correct what logs them, or raise log.max_bad_rows to learn the rest: they are "
            f"listed in {self.unusable_path}.{inputs_hint(self.reasons)}",
        )
