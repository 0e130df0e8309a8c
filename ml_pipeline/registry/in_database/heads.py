"""The heads of a scoring file as instructions; see `registry.heads` for what they see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ml_pipeline.registry.in_database import program as ops
from ml_pipeline.registry.in_database.program import SILENT, STEP, Program, many
from ml_pipeline.registry.scoring_parts import listed, mapped

Weights = list[list[float]]
"""The weights of a head: those of one class after the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """Where the inputs stand: first pairs, then what every family sees, then waves.

    What every family sees is log odds, what is heard of experts and the numbers; so each family
    finds its own in one piece.
    """

    pairs: int
    pair_count: int
    middle: int
    width: int
    wave_count: int


def compile_heads(  # noqa: PLR0913 - what heads see of a row
    program: Program,
    header: Mapping[str, object],
    array: Callable[[object], list[float]],
    *,
    columns: tuple[int, int],
    base: int,
    experts: Sequence[int],
    weights: Sequence[float],
) -> None:
    """Add to the answer what every head says whose vote counts.

    `columns` is where the row stands that they see and how wide it is, `base` and `experts` where
    their probabilities stand.
    """
    is_former = "families" not in header
    families = _families(header, array, is_former=is_former)
    left = list(weights)
    live = [
        (name, [(head, weight) for head in heads if (weight := left.pop(0)) >= SILENT])
        for name, heads in families
    ]
    seen = header if is_former else mapped(header["head_inputs"])
    has_components = not is_former and seen["components"] is not None
    components = _components(program, seen, array, columns) if has_components else []
    names = {name for name, heads in live if heads}
    pairs = listed(seen["pairs"]) if "pairs" in names else []
    phases = array(seen["phases"]) if "waves" in names else []
    odds = len(program.classes) - (not is_former)
    heard = [None if place is None else int(place) for place in listed(header.get("heard", []))]

    start = program.room(len(pairs))
    middle = program.size + 1
    for source in [base, *[0 if place is None else experts[place] for place in heard]]:
        out = program.room(odds)
        if source:
            program.emit(
                ops.ODDS, int(is_former), source=source, count=len(program.classes), out=out
            )
    if components:
        own, count = program.select(components), len(components)
    else:
        own, count = _numbers(program, seen, columns)
    width = program.size + 1 - middle
    if phases:
        frequencies = _rows(array(seen["frequencies"]), count)
        waves = program.dot(own, count, frequencies, phases)
        program.emit(ops.COSINES, source=waves, count=len(phases))
    program.room(STEP)
    if pairs:
        places = [own + int(place) for pair in pairs for place in pair]
        program.emit(ops.PAIRS, *places, count=len(pairs), out=start)
    where = _Seen(
        pairs=start, pair_count=len(pairs), middle=middle, width=width, wave_count=len(phases)
    )
    _vote(program, live, where, odds=odds, heard=odds * len(heard))


def _vote(
    program: Program,
    families: Sequence[tuple[str, Sequence[tuple[Weights, float]]]],
    seen: _Seen,
    *,
    odds: int,
    heard: int,
) -> None:
    """Add every head's shares to the answer.

    The scores of all families stand one after the other, and one instruction takes them.
    """
    scores, votes = program.size + 1, list[float]()
    for name, heads in families:
        if heads:
            _family(program, name, [head for head, _ in heads], seen, odds=odds, heard=heard)
            votes += [weight for _, weight in heads]
    # A class without weights of its own has the score 0.
    each = (program.size + 1 - scores) // len(votes)
    program.shares(scores, each, program.answer, votes, rest=len(program.classes) - each)


def _numbers(
    program: Program,
    seen: Mapping[str, object],
    columns: tuple[int, int],
) -> tuple[int, int]:
    """Compile what heads see of the numbers; returns where it stands, and how wide."""
    if not seen.get("sees_features", seen.get("sees_numbers")):
        return program.size + 1, 0
    start, count = columns
    out = program.room(count)
    mean, scale = many(seen["mean"], count), many(seen["scale"], count)
    program.standardise(start, out, fills=[0.0] * count, mean=mean, scale=scale, farthest=8.0)
    return out, count


def _components(
    program: Program,
    seen: Mapping[str, object],
    array: Callable[[object], list[float]],
    columns: tuple[int, int],
) -> Sequence[int]:
    """Compile what the numbers are reduced to; returns its places."""
    out, count = _numbers(program, seen, columns)
    rows = _rows(array(seen["components"]), count)
    # The steps read past the numbers.
    program.room(STEP)
    components = program.dot(out, count, rows, [0.0] * len(rows))
    program.emit(ops.BOUND, source=components, count=len(rows))
    return range(components, components + len(rows))


def _families(
    header: Mapping[str, object], array: Callable[[object], list[float]], *, is_former: bool
) -> list[tuple[str, list[Weights]]]:
    if is_former:
        heads = [
            [[float(weight) for weight in column] for column in zip(*listed(head), strict=True)]
            for head in listed(header["heads"])
        ]
        return [("plain", heads)]
    return [
        (str(name), [_rows(array(head), int(width)) for head in listed(heads)])
        for name, width, heads in listed(header["families"])
    ]


def _family(  # noqa: PLR0913 - where its inputs stand
    program: Program,
    name: str,
    heads: Sequence[Weights],
    seen: _Seen,
    *,
    odds: int,
    heard: int,
) -> None:
    """Compile the scores of one family's heads, in one product."""
    further = {"pairs": seen.pair_count, "waves": seen.wave_count}.get(name, 0)
    source = seen.pairs if name == "pairs" else seen.middle
    rows, biases = Weights(), list[float]()
    for head in heads:
        for row in head:
            bias_at = len(row) - 1 - heard
            numbers, extra = row[odds : bias_at - further], row[bias_at - further : bias_at]
            line = [*row[:odds], *row[bias_at + 1 :], *numbers]
            rows.append([*extra, *line] if name == "pairs" else [*line, *extra])
            biases.append(row[bias_at])
    program.dot(source, seen.width + further, rows, biases)


def _rows(flat: Sequence[float], width: int) -> Weights:
    return [list(flat[start : start + width]) for start in range(0, len(flat), width)]
