"""A person's own fitted classifier as a base: held to the config and to rows before it is one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.features import Inputs, has_text, parted
from ml_pipeline.errors import ArtifactCorrupt, ArtifactIncompatible, DataError
from ml_pipeline.registry import archive
from ml_pipeline.registry.onnx_models.graph import parsed
from ml_pipeline.registry.onnx_models.reading import read_classifier
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.training.brought.opened import read_file

log = logging.getLogger("registering")

_KINDS_OF_OUR_OWN: Final = frozenset({Kind.CATEGORY, Kind.DATETIME})

# By so many of the last rows a classifier is seen to answer.
TRIED_ROWS: Final = 2000
# Single precision rounds; scores that are no probabilities are far off.
SUM_WITHIN: Final = 1e-4
_PLAIN: Final = "It gets plain arrays: fit it on data.features in their order, without names."
_NO_SCORES: Final = (
    "Give it predict_proba that sums to one, for example by CalibratedClassifierCV; export an ONNX "
    "model without raw scores."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A classifier that answers plain rows, and its labels in the order of its probabilities.

    `fills` says what it takes for a missing number where it cannot do with none.
    """

    classifier: Any
    classes: list[str]
    fills: str | None = None


def algorithm_of(base: Any) -> str:  # noqa: ANN401 - a fitted classifier
    """What a base is called: the class of its last step."""
    return type(base.steps[-1][1] if hasattr(base, "steps") else base).__name__


def read_model_file(path: Path, settings: Settings, data: Dataset) -> Any:  # noqa: ANN401
    """What a skops archive or an ONNX file holds. Raises ArtifactError, DataError, NotFound."""
    source = f"The model {path}"
    content, is_archive = read_file(path)
    return (
        _from_skops(content, source) if is_archive else _from_onnx(content, source, settings, data)
    )


def _from_onnx(content: bytes, source: str, settings: Settings, data: Dataset) -> Any:  # noqa: ANN401
    if settings.data.text_column is not None:
        raise DataError(
            f"{source} is an ONNX model, which reads numbers alone; the config names the text "
            f"column {settings.data.text_column} (data.text_column).",
            hint="Bring a classifier of texts as a scikit-learn Pipeline in skops.",
        )
    try:
        parsed(content)
    except ValueError as error:
        hint = "Nothing of it was run. Export it again as one file of ONNX's own operators."
        raise ArtifactIncompatible(f"{source} {error}.", hint=hint) from error
    labels = Labels.of(settings.data)
    rows = _without_holes(np.asarray(data.features, dtype=np.float64))
    try:
        return read_classifier(content, settings.data.features, rows, labels.find)
    except ValueError as error:
        hint = "`docs/your-model.md` shows how models are exported."
        raise DataError(f"{source} {error}.", hint=hint) from error


def _from_skops(content: bytes, source: str) -> Any:  # noqa: ANN401
    try:
        return archive.read_model(content, source)
    except ArtifactCorrupt as error:
        hint = "Save the fitted classifier again with skops.io.dump."
        raise ArtifactCorrupt(error.message, hint=hint) from error


def base_of(
    fitted: Any,  # noqa: ANN401 - whatever a person saved
    source: str,
    data: Dataset,
    settings: Settings,
) -> Base:
    """Hold a classifier to the settings and to the rows of `data`; `source` names it in words.

    Raises DataError for anything that is none, that names or knows other things than the settings,
    or that cannot answer the rows with probabilities.
    """
    _require_classifier(fitted, source)
    _require_numbers(data, source)
    _take_names_off(fitted, source, settings.data.features)
    _check_count(fitted, source, data.features, settings)
    labels = _labels_of(fitted, source, settings)
    rows = data.features[-TRIED_ROWS:]
    fills = None
    if not has_text(rows) and not _takes_holes(fitted, rows):
        fitted, fills = _filling(fitted, data.features, rows)
        log.warning("%s: a missing value is taken for the %s of its feature", source, fills)
    _see_shares(fitted, source, data, rows, len(labels))
    return Base(classifier=fitted, classes=labels, fills=fills)


def _require_numbers(data: Dataset, source: str) -> None:
    """Raise DataError for features that stand in rows as numbers that only our models read."""
    foreign = [f"{name} ({kind})" for name, kind in data.kinds.items() if kind in _KINDS_OF_OUR_OWN]
    if foreign:
        raise DataError(
            f"{source} reads numbers and truths alone; of {data.source} it would read "
            f"{', '.join(foreign)}.",
            hint="Log those features as the numbers that it was fitted on, and name them in "
            "data.features with the kind number.",
        )


def _require_classifier(fitted: Any, source: str) -> None:  # noqa: ANN401
    classes: Any = getattr(fitted, "classes_", None)
    if not hasattr(fitted, "predict_proba") or np.ndim(classes) != 1:
        raise DataError(
            f"{source} holds a {type(fitted).__name__}, not a fitted classifier with classes_ and "
            "predict_proba.",
            hint="Save the fitted classifier, or the Pipeline that ends in it.",
        )


def _take_names_off(fitted: Any, source: str, features: list[str]) -> None:  # noqa: ANN401
    """Compare the names of the columns with the config's; the rows come without any."""
    names = list(getattr(fitted, "feature_names_in_", features))
    if names != list(features):
        raise DataError(
            f"{source} was fitted on the columns {', '.join(map(str, names))}, the config names "
            f"{', '.join(features)}.",
            hint="Set data.features to the model's, in its order.",
        )
    for part in (fitted, *(step for _, step in getattr(fitted, "steps", ()))):
        vars(part).pop("feature_names_in_", None)


def _check_count(fitted: Any, source: str, rows: Inputs, settings: Settings) -> None:  # noqa: ANN401
    width, read = rows.shape[1], getattr(fitted, "n_features_in_", None)
    if read is not None and read != width:
        raise DataError(
            f"{source} was fitted on {read} columns, the config names {width}: "
            f"{', '.join(settings.data.inputs)}.",
            hint="Set data.features to the model's, in its order.",
        )


def _labels_of(fitted: Any, source: str, settings: Settings) -> list[str]:  # noqa: ANN401
    """Its classes as the settings call them; it is told so where it calls them otherwise."""
    labels, own = Labels.of(settings.data), [str(label) for label in fitted.classes_]
    found = [labels.find(label) or label for label in own]
    if len(set(found)) != len(found):
        raise DataError(
            f"{source} knows {', '.join(own)}, of which two mean the same label.",
            hint="Look at data.labels.",
        )
    if found != own:
        last = fitted.steps[-1][1] if hasattr(fitted, "steps") else fitted
        try:
            last.classes_ = np.asarray(found)
        except AttributeError:
            raise DataError(
                f"{source} knows the classes {', '.join(own)}, the config calls them "
                f"{', '.join(found)}, and a {type(last).__name__} cannot be told.",
                hint="Fit it on the labels as data.classes has them.",
            ) from None
    return found


# ------------------------------------------------------------------------------ missing values


def _without_holes(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows that lack nothing; of none, all of them with a value of the feature for each."""
    whole = rows[np.isfinite(rows).all(axis=1)]
    if len(whole):
        return whole
    values = [column[np.isfinite(column)] for column in rows.T]
    middle = [np.sort(column)[len(column) // 2] if len(column) else 0.0 for column in values]
    return np.where(np.isfinite(rows), rows, middle)


def _takes_holes(fitted: Any, rows: Inputs) -> bool:  # noqa: ANN401
    """Whether it answers rows that lack a feature, each of them in turn."""
    width = rows.shape[1]
    holed = np.repeat(_without_holes(parted(rows)[0])[:1], width, axis=0)
    np.fill_diagonal(holed, np.nan)
    try:
        return bool(np.isfinite(fitted.predict_proba(holed)).all())
    except Exception:  # noqa: BLE001 - estimators of other people raise whatever they like
        return False


def _filling(fitted: Any, rows: Inputs, tried: Inputs) -> tuple[Any, str]:  # noqa: ANN401
    """The classifier behind a step that fills in what is missing, and with what."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline

    steps = fitted.steps if hasattr(fitted, "steps") else [("classify", fitted)]

    def filled(strategy: str) -> Any:  # noqa: ANN401
        imputer = SimpleImputer(strategy=strategy, keep_empty_features=True)
        return Pipeline([("fill", imputer.fit(rows)), *steps])

    by_median = filled("median")
    if _takes_holes(by_median, tried):
        return by_median, "median"
    # What takes whole numbers alone may not take a median.
    return filled("most_frequent"), "most frequent value"


# -------------------------------------------------------------------------------- its answers


def _see_shares(
    fitted: Any,  # noqa: ANN401
    source: str,
    data: Dataset,
    rows: Inputs,
    classes: int,
) -> None:
    """Ask it for some rows, twice. Raises DataError."""
    try:
        shares, again = (np.asarray(fitted.predict_proba(rows), dtype=np.float64) for _ in range(2))
    except Exception as error:
        # Estimators of other people raise whatever they like.
        raise DataError(
            f"{source} cannot answer the rows of {data.source}: {type(error).__name__}: {error}",
            hint=_PLAIN,
        ) from error
    if shares.shape != (len(rows), classes):
        raise DataError(f"{source} answers with probabilities of another shape than its classes.")
    _check_sums(shares, source, data)
    if not np.array_equal(shares, again):
        raise DataError(f"{source} answers the same rows differently the second time.")


def _check_sums(shares: NDArray[np.float64], source: str, data: Dataset) -> None:
    total = shares.sum(axis=1)
    wrong = ~(np.abs(total - 1) <= SUM_WITHIN) | ~(shares >= 0).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{source} answers with what are no probabilities: {np.round(shares[row], 4).tolist()} "
            f"for row {row + 1} of {data.source}, {int(wrong.sum())} rows like it.",
            hint=_NO_SCORES,
        )
