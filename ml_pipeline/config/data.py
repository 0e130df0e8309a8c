"""Settings of the data: the columns of a log, the features and classes of a row, ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self
from unicodedata import normalize

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ml_pipeline.config.base import Fraction, Section
from ml_pipeline.config.defaults import DEFAULT_CLASSES, DEFAULT_LABELS, MATCH_ID, UNCERTAIN
from ml_pipeline.config.kind import Kind

AUTO = "auto"

DEFAULT_FEATURES = (
    "home_team_form",
    "away_team_form",
    "home_team_strength",
    "away_team_strength",
    "home_advantage",
)
# By canonical name, the spellings that other logs use.
DEFAULT_COLUMNS = {
    "event_id": ["event_id", "prediction_id"],
    "timestamp": ["timestamp", "match_date"],
    "event_type": ["event_type"],
    "model_name": ["model_name"],
    "model_id": ["model_id", "model_version"],
    "match_id": ["match_id"],
    "prediction": ["prediction", "predicted_outcome", "predicted_result"],
    "confidence": ["confidence"],
    "features": ["features"],
    "probabilities": ["probabilities"],
    "actual_result": ["actual_result", "actual_outcome"],
    "evaluated_at": ["evaluated_at"],
    "accuracy": ["accuracy"],
    "status": ["status"],
    "metadata": ["metadata"],
}

Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]


class LogSettings(Section):
    """Where the evaluation log is and how its columns are spelt."""

    source: Annotated[str, Field(min_length=1)] = "table"
    csv_file: Annotated[str, Field(min_length=1)] | None = None
    confidence_unit: Literal["fraction", "percent"] = "fraction"
    max_bad_rows: Fraction = 0.05
    future_tolerance_minutes: Annotated[float, Field(ge=0)] = 60.0
    columns: dict[str, list[str]] = Field(default_factory=lambda: dict(DEFAULT_COLUMNS))

    @model_validator(mode="after")
    def _known_columns(self) -> LogSettings:
        unknown = sorted(set(self.columns) - set(DEFAULT_COLUMNS))
        if unknown:
            message = f"columns that no evaluation event has: {', '.join(unknown)}"
            raise ValueError(message)
        return self

    def spellings(self, column: str) -> list[str]:
        """Header spellings of a canonical column, the configured ones first."""
        configured = self.columns.get(column, [])
        return [*configured, *(s for s in DEFAULT_COLUMNS[column] if s not in configured)]


class DataSettings(Section):
    """The features and classes of a row, and the data on which a base is trained.

    `features` may be a list of names, a mapping from name to kind, or `auto`: every column of the
    training data that is nothing else. Without kinds they are inferred from the data that a base
    is trained on (`datasets.kinds`), which keeps them; until then a feature is a number.
    """

    features: list[str] = Field(default_factory=lambda: list(DEFAULT_FEATURES))
    text_column: Annotated[str, Field(min_length=1)] | None = None
    target: Annotated[str, Field(min_length=1)] = "result"
    id_column: Annotated[str, Field(min_length=1)] = MATCH_ID
    classes: list[str] | None = Field(default_factory=lambda: list(DEFAULT_CLASSES))
    ordered: bool = True
    labels: dict[str, str] | None = None
    training_dataset: str = "builtin"
    unlabelled_rows: Literal["refuse", "skip"] = "refuse"
    time_column: str | None = "match_date"
    group_column: str | None = "match_id"

    _kinds: dict[str, Kind] = PrivateAttr(default_factory=dict)
    _is_auto: bool = PrivateAttr(default=False)

    @model_validator(mode="wrap")
    @classmethod
    def _with_kinds(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401 - raw YAML
        features = values.get("features") if isinstance(values, Mapping) else None
        if (
            isinstance(features, list)
            and features
            and all(isinstance(f, Mapping) for f in features)
        ):
            pairs = [pair for mapping in features for pair in mapping.items()]
            features = (
                dict(pairs) if len(dict(pairs)) == len(pairs) else [name for name, _ in pairs]
            )
        names, kinds = features, dict[str, Kind]()
        if features == AUTO:
            names = []
        elif isinstance(features, Mapping):
            names = list(features)
            kinds = {str(name): _kind(name, kind) for name, kind in features.items()}
        is_changed = names is not values.get("features") if features is not None else False
        made = handler({**values, "features": names} if is_changed else values)
        made._take(kinds, is_auto=features == AUTO)  # noqa: SLF001 - its own
        if not made.features and not made.is_auto and made.text_column is None:
            message = "features is empty and there is no text_column: a model needs an input"
            raise ValueError(message)
        return made

    def _take(self, kinds: Mapping[str, Kind], *, is_auto: bool) -> None:
        self._kinds, self._is_auto = dict(kinds), is_auto

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        if self._is_auto:
            plain["features"] = AUTO
        elif self._kinds:
            # A list, for their order counts, and JSON that is kept may put keys into another one.
            plain["features"] = [{name: str(self._kinds[name])} for name in self.features]
        return plain

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """The kind of each feature by name; empty where none is said."""
        return self._kinds

    @property
    def is_auto(self) -> bool:
        """Whether the features are what the training data has."""
        return self._is_auto

    @property
    def column_kinds(self) -> tuple[Kind, ...]:
        """The kind of each feature in order; empty where none is said."""
        return tuple(self._kinds.values())

    @property
    def number_features(self) -> list[str]:
        """The features that are numbers."""
        return [name for name in self.features if self.kind(name) is Kind.NUMBER]

    def kind(self, name: str) -> Kind:
        """The kind of a feature; a number where none is said."""
        return self._kinds.get(name, Kind.NUMBER)

    def with_features(self, kinds: Mapping[str, Kind]) -> DataSettings:
        """The same with these features of these kinds."""
        changed = self.model_copy(update={"features": list(kinds)})
        changed._take(kinds, is_auto=False)  # noqa: SLF001 - its own
        return changed

    @model_validator(mode="before")
    @classmethod
    def _labels_are_text(cls, values: Any) -> Any:  # noqa: ANN401 - raw YAML
        # YAML reads 0, 1 and yes as numbers and booleans; a label is what was written.
        if isinstance(values, dict) and isinstance(values.get("labels"), dict):
            labels = {str(key): str(value) for key, value in values["labels"].items()}
            values = {**values, "labels": labels}
        if isinstance(values, dict) and isinstance(values.get("classes"), list):
            values = {**values, "classes": [str(value) for value in values["classes"]]}
        return values

    @model_validator(mode="after")
    def _reads_a_text_once(self) -> DataSettings:
        if self.text_column in {*self.features, self.target}:
            message = f"text_column {self.text_column} is a feature or the target already"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> DataSettings:
        for name, values in (("features", self.features), ("classes", self.classes or [])):
            # Of a class only the form of its accented letters may differ, which is no difference.
            distinct = _composed(values) if name == "classes" else set(values)
            if len(distinct) != len(values):
                message = f"{name} names something twice"
                raise ValueError(message)
        if UNCERTAIN in {*(self.classes or []), *self.label_map().values()}:
            message = f"no class may be called {UNCERTAIN}: a model that is not sure answers so"
            raise ValueError(message)
        if self.classes is not None:
            if len(self.classes) < 2:  # noqa: PLR2004 - a classifier tells two things apart
                message = "classes needs at least two labels"
                raise ValueError(message)
            strange = sorted(_composed(self.label_map().values()) - _composed(self.classes))
            if strange:
                message = f"labels maps to {', '.join(strange)}, not one of classes"
                raise ValueError(message)
        return self

    @property
    def inputs(self) -> list[str]:
        """Names of everything a model reads of a row: the features, then the text."""
        return [*self.features, *([] if self.text_column is None else [self.text_column])]

    def label_map(self) -> dict[str, str]:
        """Every spelling that is known and its class; without classes others are accepted too."""
        if self.classes is None:
            labels = self.labels or {}
            return {**{name: name for name in labels.values()}, **labels}
        spellings = {name: name for name in self.classes}
        if self.labels is None and set(self.classes) == set(DEFAULT_CLASSES):
            return {**DEFAULT_LABELS, **spellings}
        return {**(self.labels or {}), **spellings}


def _composed(labels: Iterable[str]) -> set[str]:
    return {normalize("NFC", label) for label in labels}


def _kind(name: object, kind: object) -> Kind:
    try:
        return Kind(str(kind))
    except ValueError:
        message = f"{name} is {kind!r}, not one of {', '.join(Kind)}"
        raise ValueError(message) from None


class GroundTruthSettings(Section):
    """The table of labels that people gave, for `train --from-table`."""

    table: Column = "ml_data"
    id_column: Column = "id"
    time_column: Column | None = "created_at"
    target: Column = "label"
    model_column: Column | None = None
    group_column: Column | None = None

    @model_validator(mode="after")
    def _not_the_log(self) -> GroundTruthSettings:
        if self.table == "evaluation_log":
            message = "the inference log is not ground truth: its predictions are the model's own"
            raise ValueError(message)
        return self
