"""How a text becomes numbers (TF-IDF of phrases, statistics), and what makes one unusable.

Training and a cold prediction count alike, so nothing but the standard library is used here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from math import log1p, sqrt

MAX_CHARACTERS = 100_000
# Words of 2 to 50 letters; what is longer is an address or a blob, and would only fill the model.
WORD = r"(?u)\b\w{2,50}\b"
LONGEST_PHRASE = 3
STATISTICS = (
    "length",
    "words",
    "sentences",
    "question_words",
    "code_marks",
    "upper_case_ratio",
    "digit_ratio",
)

_word = re.compile(WORD)
_code_mark = re.compile(r"```|[`{}\[\]<>;\\]|==|!=|=>|->|::|\w\(|\w_\w|&&|\|\|")
_SENTENCE_ENDS = tuple(".!?…。！？")
_QUESTION_WORDS = frozenset(
    ("what", "when", "where", "which", "who", "whom", "whose", "why", "how")
)


def fault(text: str) -> str:
    """What is wrong with a text, as the end of a sentence that begins with its name; '' if fine."""
    if not text.strip():
        return "is empty"
    if len(text) > MAX_CHARACTERS:
        return f"has {len(text)} characters, at most {MAX_CHARACTERS} are read"
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return ""


def phrases(text: str) -> Counter[str]:
    """How often each run of one to three words occurs in a text, in lower case."""
    words = _word.findall(text.lower())
    found = Counter(words)
    for size in range(2, LONGEST_PHRASE + 1):
        found.update(
            " ".join(words[start : start + size]) for start in range(len(words) - size + 1)
        )
    return found


def statistics(text: str) -> list[float]:
    """The numbers `STATISTICS` of a text.

    Counts are logarithms of one more than themselves: a text of twice the length is not twice as
    hard. Ratios are shares of the letters and of the characters.
    """
    letters, parts = sum(map(str.isalpha, text)), text.split()
    return [
        log1p(len(text)),
        log1p(len(parts)),
        log1p(sum(part.endswith(_SENTENCE_ENDS) for part in parts)),
        log1p(sum(word in _QUESTION_WORDS for word in _word.findall(text.lower()))),
        log1p(len(_code_mark.findall(text))),
        sum(map(str.isupper, text)) / max(letters, 1),
        sum(map(str.isdigit, text)) / max(len(text), 1),
    ]


Prepare = Callable[[Sequence[float]], list[float]]


class Reading:
    """Turns a row, its text last, into TF-IDF weights, text statistics and prepared numbers."""

    def __init__(
        self,
        terms: Sequence[str],
        idf: Sequence[float],
        statistics: Prepare,
        numbers: Sequence[Prepare],
    ) -> None:
        if len(terms) != len(idf):
            raise ValueError("terms and their weights differ in length")
        self._places = dict(zip(terms, range(len(terms)), strict=True))
        if len(self._places) != len(terms):
            raise ValueError("a term stands twice")
        self._idf = idf
        self._statistics = statistics
        self._numbers = numbers
        # Base and heads ask for the same text one after the other.
        self._last = "", list[tuple[int, float]]()

    def prepare(self, row: Sequence[float]) -> list[float]:
        """What the classifier sees of a row."""
        weights = [0.0] * len(self._places)
        for place, weight in self.weighed(str(row[-1])):
            weights[place] = weight
        return [*weights, *self.beside(row)]

    def beside(self, row: Sequence[float]) -> list[float]:
        """What the classifier sees of a row after the terms of its text."""
        prepared = list(row[:-1])
        for step in self._numbers:
            prepared = step(prepared)
        return [*self._statistics(statistics(str(row[-1]))), *prepared]

    def weighed(self, text: str) -> list[tuple[int, float]]:
        """The terms of a text by their places, and their TF-IDF of unit length.

        Added up in the order in which scikit-learn does.
        """
        last = self._last  # read once: another thread may replace it
        if text == last[0]:
            return last[1]
        places, idf = self._places, self._idf
        found = sorted(
            (places[phrase], count * idf[places[phrase]])
            for phrase, count in phrases(text).items()
            if phrase in places
        )
        squares = 0.0
        for _, weight in found:
            squares += weight * weight
        length = sqrt(squares)
        weights = [(place, weight / length) for place, weight in found]
        self._last = text, weights
        return weights
