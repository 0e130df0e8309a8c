"""What an incumbent, a classifier of somebody's own, answered, on its way to being corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_pipeline.errors import InputError
from ml_pipeline.registry import scoring
from ml_pipeline.store.inputs.incumbent_columns import ANSWER, ANSWER_CONFIDENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ml_pipeline.config.quick import QuickSettings
    from ml_pipeline.store.inputs.labels import Labels
    from ml_pipeline.store.serving_view import ServedModel

    Answer = Mapping[str, object]


def one_answer(
    probabilities: Mapping[str, float] | None, prediction: str | None, confidence: float | None
) -> Answer:
    """The answer that a caller hands over. Raises InputError for two of them, or half of one."""
    if probabilities is not None and prediction is None and confidence is None:
        from ml_pipeline.store.inputs.values import mapping

        return mapping(probabilities, "probabilities")
    if probabilities is None and prediction is not None and confidence is not None:
        return {"prediction": str(prediction), "confidence": confidence}
    from ml_pipeline.store.inputs.incumbents import HINT

    raise InputError(
        "Give the incumbent's probabilities, or its prediction and its confidence.", hint=HINT
    )


def of_row(row: Mapping[str, object], scorer: scoring.Scorer) -> Answer | None:
    """The answer in a row of a batch, where the model corrects one."""
    answer = row.get(ANSWER)
    if not scorer.corrects or answer is None:
        return None
    if isinstance(answer, str):
        from ml_pipeline.store.inputs.incumbents import written

        return written(answer, row.get(ANSWER_CONFIDENCE))
    from ml_pipeline.store.inputs.values import mapping

    return mapping(answer, ANSWER)


def shares(
    model: ServedModel,
    scorer: scoring.Scorer,
    answer: Answer | None,
    settings: QuickSettings,
) -> list[float]:
    """The incumbent's probability of each class; none where the model corrects nobody.

    Raises InputError for a model that corrects somebody without an answer, one that does not with
    an answer, and for an answer that is none.
    """
    if not scorer.corrects:
        if answer is None:
            return []
        raise InputError(
            f"{model.model_id} stands on a base of its own ({model.algorithm}) and corrects "
            "nobody's answers.",
            hint="Ask it without the incumbent's answer; a base that corrects one is made by "
            "training.algorithm: Incumbent and `ml-pipeline train --register`.",
        )
    if answer is None:
        raise InputError(
            f"{model.model_id} corrects the answers of an incumbent, and none was given.",
            hint="Call correct(features, probabilities={...}), `ml-pipeline predict --incumbent "
            "JSON`, or over HTTP /v1/correct; a file or list of rows has it as incumbent.",
        )
    from ml_pipeline.store.inputs.incumbents import shares_of

    return shares_of(answer, scorer.classes, labels_of(settings, scorer.classes))


def labels_of(settings: QuickSettings, classes: Sequence[str]) -> Labels:
    """The labels by which the answer is read: the settings', and the model's."""
    from ml_pipeline.store.inputs.labels import Labels

    named = {label: label for label in classes}
    return Labels({**named, **settings.spellings}, is_open=settings.any_label)


def metadata_of(
    guess: str | None, incumbent: Mapping[str, float] | None
) -> dict[str, object] | None:
    """What an event says beside its columns.

    What an UNCERTAIN answer would have been, and what the incumbent answered that was corrected.
    """
    found: dict[str, object] = {} if guess is None else {"best_guess": guess}
    if incumbent:
        found[ANSWER] = dict(incumbent)
    return found or None
