"""What a label is: one reading of its spellings, wherever a label enters.

`config.data` says which spellings there are (`DataSettings.label_map`); here they are read, in
Python and as tables for SQL, so that every reader means the same. A label is looked for as it is
written, then without the space around it, then in any case and as a whole number without its point
(`1.0` is `1`); of two classes that are `0` and `1`, or `false` and `true`, either spelling will do.
An accented letter is the same whether it is one character or a letter with its accent (Unicode's
forms NFC and NFD, of which macOS writes the second). A label is in NFC unless the settings name it
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from unicodedata import normalize

from ml_pipeline.errors import InputError
from ml_pipeline.store.event_row import UNCERTAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from ml_pipeline.config.data import DataSettings

# What str.strip takes away, written out for SQL, whose trim knows less of it.
SPACE = (
    " \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
# What programs write where there is no value. Only a class that the settings name is called so.
BLANKS = ("", "nan", "none", "null", "<na>")
# The same where a number, a truth or a time is wanted; a category may well be called NA: see
# `cells.no_values`.
NO_VALUES = (*BLANKS, "na", "n/a", "#n/a", "nat", "?", "-", "--")
_TRUTH = (("true", "1"), ("false", "0"))
_SHOWN = 12


class Labels:
    """The labels of a model, by their spellings; `is_open` takes any other text for a label too.

    `names` are the classes in their order. `exact` has the label of each spelling, `folded` of each
    spelling in lower case that means one label only.
    """

    __slots__ = ("exact", "folded", "is_open", "names")

    def __init__(self, spellings: Mapping[str, str], *, is_open: bool = False) -> None:
        self.is_open = is_open
        names = {composed(name): name for name in spellings.values()}
        known = {composed(text): names[composed(name)] for text, name in spellings.items()}
        self.names = tuple(names.values())
        self.exact = {**names, **known}
        self.folded = _folded(self.exact)

    @classmethod
    def of(cls, data: DataSettings) -> Self:
        """The labels that the settings name."""
        return cls(data.label_map(), is_open=data.classes is None)

    def find(self, value: object) -> str | None:
        """The label that a value means, None for one that is no label, an empty one included.

        Raises InputError for a value that is neither text, number nor truth.
        """
        text = spelt(value)
        found = self.exact.get(text)
        if found is not None:
            return found
        text = text.strip()
        found = self.exact.get(text) or self.folded.get(fold(text))
        if found is None and self.is_open and text != UNCERTAIN and not is_blank(text):
            return text
        return found

    def find_answer(self, value: object) -> str | None:
        """The same of a prediction, which may be UNCERTAIN."""
        found = self.find(value)
        if found is None:
            text = spelt(value).strip()
            is_uncertain = text == UNCERTAIN or (not self.is_open and text.upper() == UNCERTAIN)
            return UNCERTAIN if is_uncertain else None
        return found

    def outcome(self, value: object) -> str:
        """The label of what really happened. Raises InputError naming the known labels."""
        return self.find(value) or self._refuse(value, "outcome")

    def prediction(self, value: object) -> str:
        """The label of an answer. Raises InputError naming the known labels."""
        return self.find_answer(value) or self._refuse(value, "prediction")

    def agree(self, prediction: object, outcome: object) -> bool:
        """Whether a prediction, however it is spelt, was right."""
        found = self.find_answer(prediction)
        return found is not None and found == self.find(outcome)

    def tables(self) -> dict[str, dict[str, str]]:
        """`exact` and `folded` for SQL that does not compose letters: in either form of them."""
        return {
            name: {**{decomposed(text): label for text, label in table.items()}, **table}
            for name, table in (("exact", self.exact), ("folded", self.folded))
        }

    def described(self) -> str:
        """The known labels and their spellings, for a sentence."""
        also = [text for text, name in self.exact.items() if text != name]
        shown = also[:_SHOWN] + (["…"] if len(also) > _SHOWN else [])
        return ", ".join(self.names) + (f" (also spelt {', '.join(shown)})" if also else "")

    def hint(self) -> str:
        """What to do about a value that is no label."""
        if self.is_open:
            return (
                "It reads as a missing value: name it in data.classes if it is a class. "
                f"{UNCERTAIN} is none: a model that is not sure answers so."
            )
        return (
            f"Known labels: {self.described()}; give other spellings their class in data.labels, "
            "and name a new class in data.classes."
        )

    def _refuse(self, value: object, what: str) -> str:
        if not self.is_open and not is_blank(spelt(value)):
            raise InputError(f"The {what} {value!r} is no label.", hint=self.hint())
        raise InputError(f"The {what} {value!r} is no label: it cannot be empty.", hint=self.hint())


def spelt(value: object) -> str:
    """A label as text in NFC; '' for a missing value. Raises InputError for what is no label."""
    if isinstance(value, str):
        # An enumeration of texts would say its own name.
        return composed(str.__str__(value))
    if value is None:
        return ""
    if not hasattr(value, "__len__") and callable(take := getattr(value, "item", None)):
        value = take()  # a number of NumPy or pandas
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (bool, int, float)):
        return str(value)
    kind = type(value).__name__
    if kind in {"NAType", "NaTType"}:
        return ""
    if kind == "Decimal":
        return str(value)
    raise InputError(f"A label is a text, a whole number or a boolean, not {value!r} ({kind}).")


def composed(text: str) -> str:
    """A text with each accented letter as one character (NFC)."""
    return text if text.isascii() else normalize("NFC", text)


def decomposed(text: str) -> str:
    """A text with each accent as a character of its own (NFD)."""
    return text if text.isascii() else normalize("NFD", text)


def is_blank(text: str) -> bool:
    """Whether a text stands for a missing value."""
    return text.strip().lower() in BLANKS


def id_cell(cell: str) -> str:
    """The id in a cell, '' where a program wrote `nan`, `None` or the like for no id."""
    return "" if is_blank(cell) else cell.strip()


def fold(text: str) -> str:
    """A spelling in lower case, a whole number without its point."""
    text = text.strip().lower()
    whole, point, rest = text.partition(".")
    digits = whole.lstrip("-")
    is_whole = point and rest and not rest.strip("0") and digits.isdecimal() and digits.isascii()
    return whole if is_whole else text


def _folded(exact: Mapping[str, str]) -> dict[str, str]:
    meanings: dict[str, set[str]] = {}
    for text, name in exact.items():
        meanings.setdefault(fold(text), set()).add(name)
    folded = {text: names.pop() for text, names in meanings.items() if len(names) == 1}
    if len(set(exact.values())) == len(_TRUTH):
        for pair in ((0, 1), (1, 0)):
            twins = [(truth[pair[0]], truth[pair[1]]) for truth in _TRUTH]
            if all(known in folded and new not in folded for known, new in twins):
                folded |= {new: folded[known] for known, new in twins}
    return folded


ANY_LABEL = Labels({}, is_open=True)
