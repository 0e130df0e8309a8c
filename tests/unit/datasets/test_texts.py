"""What is counted in a text, and which texts cannot be used."""

from __future__ import annotations

import re
from math import log1p

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from ml_pipeline.datasets import texts


def numbers(text: str) -> dict[str, float]:
    return dict(zip(texts.STATISTICS, texts.statistics(text), strict=True))


def test_a_text_is_described_by_its_counts_and_ratios() -> None:
    found = numbers("Why does f(x) fail? See `x == 1`. WHICH 2 lines are wrong...")
    assert found["length"] == log1p(60)
    assert found["words"] == log1p(13)
    assert found["sentences"] == log1p(3)
    assert found["question_words"] == log1p(2)
    assert found["code_marks"] == log1p(4)
    assert found["upper_case_ratio"] == 7 / 35
    assert found["digit_ratio"] == 2 / 60


@given(st.text(st.sampled_from("a.!?…。！？ \n\u00a0\u3000\x1c"), max_size=30))
def test_a_sentence_ends_where_its_marks_do_before_a_space_or_the_end(text: str) -> None:
    ends = re.findall(r"[.!?…。！？]+(?=\s|$)", text)
    assert numbers(text)["sentences"] == log1p(len(ends))


def test_a_text_without_letters_has_ratios_all_the_same() -> None:
    assert numbers("👍 ?!")["upper_case_ratio"] == 0.0
    assert numbers("123")["digit_ratio"] == 1.0


@given(st.text(max_size=200))
def test_phrases_are_the_ones_that_scikit_learn_finds(text: str) -> None:
    analyse = TfidfVectorizer(token_pattern=texts.WORD, ngram_range=(1, 3)).build_analyzer()
    assert sorted(texts.phrases(text).elements()) == sorted(analyse(text))


def test_a_word_that_is_longer_than_any_word_is_left_out() -> None:
    assert texts.phrases("a " + "x" * 51 + " the end") == {"the": 1, "end": 1, "the end": 1}


class Overtaken(str):
    """A text in whose comparison another thread asks for another one."""

    __slots__ = ("reading",)
    reading: texts.Reading

    def __eq__(self, other: object) -> bool:
        found = str.__eq__(self, other)
        self.reading.weighed("other")
        return found

    __hash__ = str.__hash__


def test_a_text_has_its_own_weights_whatever_another_thread_asks_meanwhile() -> None:
    reading = texts.Reading(["mine", "other"], [1.0, 1.0], lambda _: [], [])
    mine = Overtaken("mine")
    mine.reading = reading
    assert reading.weighed("mine") == [(0, 1.0)]
    assert reading.weighed(mine) == [(0, 1.0)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        (" \n\t\u00a0\u2003", "is empty"),
        ("x" * 100_001, "has 100001 characters, at most 100000 are read"),
        ("a\0b", "holds a NUL character"),
        ("a\ud800", "is not valid Unicode"),
        ("x" * 100_000, ""),
        ("two\nlines\r\nand 👍🏽", ""),
    ],
)
def test_a_fault_of_a_text_is_named(text: str, what: str) -> None:
    assert texts.fault(text) == what
