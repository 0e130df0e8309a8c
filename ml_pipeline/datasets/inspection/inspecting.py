"""What a table is: its target and classes, its time, its id, its features, and what is doubtful.

Every doubt is a question with an answer that is taken where nobody is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets import texts
from ml_pipeline.datasets.inspection import roles
from ml_pipeline.datasets.inspection.leakage import Relation, Suspect, suspect_of
from ml_pipeline.datasets.inspection.table import Table
from ml_pipeline.datasets.inspection.target import Classes, find_classes
from ml_pipeline.datasets.kinds import Inference, inferences
from ml_pipeline.datasets.times import parsed_times, read_times
from ml_pipeline.errors import DataError
from ml_pipeline.store.inputs.cells import no_values
from ml_pipeline.store.inputs.columns import listed
from ml_pipeline.store.inputs.incumbent_columns import PREFIX
from ml_pipeline.store.inputs.labels import Labels

NONE: Final = "none"
YES, NO = "yes", "no"
_LEADING_ZERO: Final = "leading zeros"


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Something that only a person can know; `default` is one of the `options`."""

    text: str
    options: tuple[str, ...]
    default: str

    def __post_init__(self) -> None:
        if self.default not in self.options:
            message = f"{self.default!r} is none of {', '.join(self.options)}"
            raise ValueError(message)


Ask = Callable[[Question], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What a person says of a table; None leaves it to the data. `reserved` names mean ours."""

    target: str | None = None
    id_column: str | None = None
    time_column: str | None = None
    reserved: Collection[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """A column that a model reads; `missing` is a share of the rows, 0..1."""

    name: str
    kind: Kind
    missing: float
    levels: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What a table was found to be. `left_out` says of each other column why it is no feature.

    `frame` are the rows of the sample that have a result, `labels` (m,) theirs.
    """

    table: Table
    target: str
    classes: Classes
    features: tuple[Feature, ...]
    text_column: str | None
    time_column: str | None
    id_column: str | None
    id_repeats: bool
    left_out: dict[str, str]
    suspects: tuple[Suspect, ...]
    frame: pd.DataFrame = field(repr=False)
    labels: NDArray[np.str_] = field(repr=False)

    @property
    def names(self) -> list[str]:
        """The names of the features."""
        return [feature.name for feature in self.features]


def inspect(table: Table, wishes: Wishes, ask: Ask, *, least_rows: int) -> Inspection:
    """Find out what a table is.

    Raises DataError for a table of which no classifier can be made, a column that is not there,
    and a time that cannot be read.
    """
    target = _target(table, wishes, ask)
    classes = find_classes(table.counts(target), target, table.source)
    if classes.rows < least_rows:
        raise DataError(
            f"{table.source} has {classes.rows:,} rows with a result: too few to learn from "
            f"({least_rows} are needed).",
            hint="Come back when there are more.",
        )
    labels = table.frame[target].map(_reader(classes))
    frame = table.frame[labels.notna()].reset_index(drop=True)
    found = inferences(frame, [name for name in table.names if name != target])
    time_column = _time(table, frame, found, wishes, ask)
    rest = {name: kind for name, kind in found.items() if name != time_column}
    id_column = _id(table, frame, rest, wishes, ask)
    rest.pop(id_column or "", None)
    chosen = _Chosen(
        table=table, frame=frame, labels=labels.dropna().to_numpy(dtype=str), target=target
    )
    chosen.choose(rest, wishes.reserved, ask)
    if not chosen.features and chosen.text_column is None:
        reasons = "; ".join(f"{name} {why}" for name, why in list(chosen.left_out.items())[:10])
        raise DataError(
            f"{table.source} has no column that could tell {target}: {reasons or 'no other one'}.",
            hint="Add columns of what is known when a prediction is asked for.",
        )
    ids = frame[id_column] if id_column else None
    return Inspection(
        table=table, target=target, classes=classes, features=tuple(chosen.features),
        text_column=chosen.text_column, time_column=time_column, id_column=id_column,
        id_repeats=ids is not None and not ids[ids.str.strip() != ""].is_unique,
        left_out=chosen.left_out, suspects=tuple(chosen.suspects), frame=frame,
        labels=chosen.labels,
    )  # fmt: skip


def _reader(classes: Classes) -> Callable[[str], str | None]:
    return Labels({label: label for label in classes.counts}).find


# ---------------------------------------------------------------------------- target, time, id


def _target(table: Table, wishes: Wishes, ask: Ask) -> str:
    name = wishes.target
    if name is None:
        name = ask(
            Question(
                text="Which column is to be predicted? (--target)",
                options=(*table.names, NONE),
                default=NONE,
            )
        )
        if name == NONE:
            raise DataError(
                f"{table.source}: nobody says which column is to be predicted.",
                hint=f"Name it with --target. There are: {listed(table.names)}.",
            )
    target = table.find(name)
    if target in wishes.reserved:
        raise DataError(
            f"The target cannot be called {target}: a column of the log has that name.",
            hint="Call it otherwise in the file.",
        )
    return target


def _time(
    table: Table, frame: pd.DataFrame, found: dict[str, Inference], wishes: Wishes, ask: Ask
) -> str | None:
    """The column of times: the named one, else the only one that may be it, else what is said."""
    if wishes.time_column is not None:
        name = table.find(wishes.time_column)
        if name not in found:
            raise DataError(
                f"{name} is the target and cannot be the time as well.", hint="Leave out --time."
            )
        read_times(frame[name], table.source)
        return name
    likely = roles.times_of(frame, found)
    shown = ", ".join(likely)
    return _one_of(likely, f"Which column says when a row came up? {shown} hold times.", ask)


def _id(
    table: Table, frame: pd.DataFrame, found: dict[str, Inference], wishes: Wishes, ask: Ask
) -> str | None:
    if wishes.id_column is not None:
        name = table.find(wishes.id_column)
        if name not in found:
            raise DataError(
                f"{name} is the target or the time and cannot be the id as well.",
                hint="Leave out --id.",
            )
        return name
    likely = roles.ids_of(frame, found)
    shown = ", ".join(likely)
    return _one_of(likely, f"Which column names the thing that is predicted? {shown} are ids.", ask)


def _one_of(likely: Sequence[str], question: str, ask: Ask) -> str | None:
    """The only one, or of several the one that is answered."""
    if len(likely) <= 1:
        return likely[0] if likely else None
    answer = ask(Question(text=question, options=(*likely, NONE), default=likely[0]))
    return None if answer == NONE else answer


# ---------------------------------------------------------------------------- features


@dataclass(kw_only=True, slots=True)
class _Chosen:
    """The features among the other columns, chosen one after another."""

    table: Table
    frame: pd.DataFrame
    labels: NDArray[np.str_]
    target: str
    features: list[Feature] = field(default_factory=list)
    text_column: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    suspects: list[Suspect] = field(default_factory=list)

    def choose(self, found: dict[str, Inference], reserved: Collection[str], ask: Ask) -> None:
        """Decide on every column."""
        self.left_out.update(self.table.unusable)
        for name, inference in found.items():
            column = _without_gaps(self.frame[name], inference.kind)
            filled = int((column != "").sum())
            why = self._useless(name, inference, filled)
            if name in reserved:
                why = "is called like a column of the log: rename it to have it read"
            if name.startswith(PREFIX):
                why = "is the answer of an incumbent: only training.algorithm: Incumbent reads it"
            suspect = None if why else suspect_of(_comparable(column, inference), self.labels, name)
            if suspect is not None:
                self.suspects.append(suspect)
                why = self._suspected(suspect, ask)
            if not why and roles.are_sentences(inference, filled):
                why = self._text(name, column)
                if not why:
                    continue
            if why:
                self.left_out[name] = why
                continue
            kind = _kind(column, name, inference, ask)
            missing = 1 - filled / len(column)
            self.features.append(
                Feature(
                    name=name,
                    kind=kind,
                    missing=missing,
                    levels=inference.levels,
                    reason=inference.reason,
                )
            )

    def _useless(self, name: str, inference: Inference, filled: int) -> str:
        if not inference.levels:
            return "has no value in any row"
        if inference.levels == 1 and filled == len(self.frame):
            return "has the same value in every row"
        if roles.is_row_number(self.frame[name], self.table.rows):
            return "numbers the rows"
        if roles.are_sentences(inference, filled):
            return ""
        if roles.is_of_single_rows(inference, filled, name):
            return "has a value of its own in nearly every row, as an id or a name"
        return ""

    def _suspected(self, suspect: Suspect, ask: Ask) -> str:
        """Why a suspect is left out, '' where it is kept."""
        is_sure = suspect.relation is not Relation.NEARLY
        answer = ask(
            Question(
                text=f"{suspect.sentence(self.target)}. Is it known when a prediction is asked "
                f"for, so that {suspect.name} may be a feature?",
                options=(YES, NO),
                default=NO if is_sure else YES,
            )
        )
        if answer == YES:
            return ""
        return f"{suspect.relation} {self.target}: it may be known only afterwards (leakage)"

    def _text(self, name: str, column: pd.Series) -> str:
        """Take the first column of sentences as the text; else say why it is left out."""
        if self.text_column is not None:
            return f"holds sentences, and a model reads one text: {self.text_column}"
        if column.map(texts.fault).ne("").any():
            return "holds sentences and is empty in some rows: a text has to be there"
        self.text_column = name
        return ""


def _without_gaps(column: pd.Series, kind: Kind) -> pd.Series:
    """A column of texts without the space around them, '' wherever the loop reads no value."""
    texts = column.str.strip()
    return texts.mask(texts.str.lower().isin(no_values(kind)), "")


def _comparable(column: pd.Series, inference: Inference) -> pd.Series:
    """Texts whose numbers can be put in order: a time as its seconds."""
    if inference.kind is not Kind.DATETIME:
        return column
    times = parsed_times(column)
    seconds = (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return seconds.map(lambda value: "" if np.isnan(value) else repr(float(value)))


def _kind(column: pd.Series, name: str, inference: Inference, ask: Ask) -> Kind:
    """The kind of a feature: the inferred one, unless a doubt is decided otherwise."""
    doubt = inference.doubt or ""
    is_code = _LEADING_ZERO in doubt or roles.is_called_code(name)
    is_slip = "is no number" in doubt and not roles.has_only_gaps(column)
    if inference.kind is not Kind.NUMBER or not doubt or not (is_code or is_slip):
        return inference.kind
    answer = ask(
        Question(
            text=f"{name}: {doubt}. Which kind is it?",
            options=(Kind.NUMBER.value, Kind.CATEGORY.value),
            default=Kind.CATEGORY if is_code or is_slip else Kind.NUMBER,
        )
    )
    return Kind(answer)
