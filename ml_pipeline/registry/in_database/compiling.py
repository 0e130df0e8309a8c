"""From the header and the arrays of a scoring file to the program that says the same.

See `scoring_parts` for what the parts of a header are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ml_pipeline.registry.heads.plain import MIN_PROBABILITY
from ml_pipeline.registry.in_database import program as ops
from ml_pipeline.registry.in_database.heads import compile_heads
from ml_pipeline.registry.in_database.program import (
    LARGEST_BYTES,
    LINKS,
    STEP,
    Inexpressible,
    Program,
    many,
    padded,
    scales,
)
from ml_pipeline.registry.in_database.trees import compile_trees
from ml_pipeline.registry.scoring_parts import Reader, listed, mapped

# One of a later version may mean something else by the same words.
_FORMATS = tuple(f"ml_pipeline scoring {number}" for number in (1, 2, 3, 4, 5))


def compile_scoring(content: bytes) -> Program:
    """The program of a scoring file whose bytes were verified. Raises Inexpressible."""
    line, _, _ = content.partition(b"\n")
    header = json.loads(line)
    if header["format"] not in _FORMATS:
        raise Inexpressible(f"the format {header['format']!r}")
    if header["text_column"] is not None:
        raise Inexpressible("a text")
    reader = Reader(memoryview(content)[len(line) + 1 :])
    program = _Compiler(header, reader).compile()
    if program.bytes > LARGEST_BYTES:
        raise Inexpressible(
            f"{program.bytes / 1e6:,.0f} MB of numbers, over {LARGEST_BYTES / 1e6:,.0f} MB, which "
            "take too long to read for each answer"
        )
    return program


class _Compiler:
    """Walks through a header once, from the base to the vote."""

    def __init__(self, header: Mapping[str, object], reader: Reader) -> None:
        self._header, self._reader = header, reader
        classes = [str(label) for label in listed(header["classes"])]
        self._columns_of_base = [int(column) for column in listed(header["base_columns"])]
        self._program = Program(
            features=[str(name) for name in listed(header["features"])],
            kinds=[str(kind) for kind in listed(header.get("kinds", []))],
            classes=classes,
            base_classes=[classes[column] for column in self._columns_of_base],
        )
        self._width = len(self._program.features)
        self._program.room(self._width)
        # Of the base's first vote: each member's name and place, and where their weights stand.
        self._members: tuple[list[str], list[int], int] | None = None
        self._is_base = True

    def compile(self) -> Program:
        """The whole program."""
        header, program = self._header, self._program
        base = self._ordered(mapped(header["base"]), self._columns_of_base)
        self._is_base = False
        experts = [
            self._ordered(mapped(model), columns)
            for model, columns in listed(header.get("experts", []))
        ]
        weights = [float(weight) for weight in listed(header["vote"])]
        heads = weights[1 : len(weights) - len(experts)]
        count = len(program.classes)
        program.answer, nothing = program.room(count), program.keep([0.0])
        for place in range(program.answer, program.answer + count):
            program.emit(ops.SET, place, nothing)
        for start, weight in zip(
            [base, *experts], [weights[0], *weights[1 + len(heads) :]], strict=True
        ):
            kept = program.keep_weights([weight])
            program.emit(ops.ADD, start, count, program.answer, kept)
        if any(weight >= ops.SILENT for weight in heads):
            numbers = self._head_columns()
            compile_heads(
                program, header, self._array,
                columns=numbers, base=base, experts=experts, weights=heads,
            )  # fmt: skip
        self._answer(count)
        program.size += STEP
        return program

    def _answer(self, count: int) -> None:
        """Put what the caller gets in one piece."""
        program = self._program
        program.answers = count
        if self._members is None:
            return
        program.members, members, shares = self._members
        each = len(program.base_classes)
        sources = list(range(program.answer, program.answer + count))
        for number, member in enumerate(members):
            sources += [shares + number, *range(member, member + each)]
        program.answer, program.answers = program.room(len(sources)), len(sources)
        program.emit(ops.SELECT, program.answer, len(sources), *sources)

    def _array(self, place: object) -> list[float]:
        return [float(value) for value in self._reader.array(place)]

    def _ordered(self, part: Mapping[str, object], columns: Sequence[int]) -> int:
        program, count = self._program, len(self._program.classes)
        start, _ = self._classifier(part, 1, self._width)
        if list(columns) == list(range(count)):
            return start
        out = program.room(count)
        fill = 0.0 if len(columns) == count else MIN_PROBABILITY
        code = [int(column) for column in columns]
        program.emit(ops.ORDER, start, len(code), out, count, program.keep([fill]), *code)
        return out

    def _classifier(self, part: Mapping[str, object], start: int, width: int) -> tuple[int, int]:
        """Compile a classifier of the values at `start`; returns where its shares stand."""
        kind = part["kind"]
        if kind == "pipeline":
            start, width = self._prepared(listed(part["steps"]), start, width)
            return self._classifier(mapped(part["last"]), start, width)
        if kind == "linear":
            return self._linear(part, start, width)
        if kind == "trees":
            return self._trees(part, start, width)
        if kind == "vote":
            return self._voted(part, start, width)
        if kind == "incumbent":
            return self._incumbent(part)
        raise Inexpressible(f"a part called {kind}")

    def _incumbent(self, part: Mapping[str, object]) -> tuple[int, int]:
        """Compile the answer that a row brings along, divided by its sum."""
        program, count = self._program, int(str(part["count"]))
        # Of columns that lack a class: the last one, which gets 0 and is nobody's.
        out, nothing = program.room(count + 1), program.keep([0.0])
        start = int(str(part["first"])) + 1
        program.emit(ops.ORDER, start, count, out, count + 1, nothing, *range(count))
        return out, count

    def _prepared(
        self, steps: Sequence[Mapping[str, object]], start: int, width: int
    ) -> tuple[int, int]:
        """Compile steps; they work on a copy of the values."""
        program, is_copy = self._program, False
        for step in steps:
            if step["kind"] == "columns":
                start, width = self._columns(step, start, with_steps=True)
            else:
                if not is_copy:
                    copy = program.room(width)
                    program.emit(ops.SELECT, copy, width, *range(start, start + width))
                    start = copy
                self._step(step, start, width)
            is_copy = True
        return start, width

    def _step(self, step: Mapping[str, object], start: int, width: int) -> None:
        program, kind = self._program, step["kind"]
        if kind == "impute":
            program.emit(ops.IMPUTE, start, width, program.keep(many(step["fill"], width)))
        elif kind == "scale":
            mean, scale = many(step["mean"], width), many(step["scale"], width)
            program.emit(ops.SCALE, start, width, program.keep([*mean, *scales(scale)]))
        elif kind == "clip":
            program.emit(ops.CLIP, start, width, program.keep([float(str(step["farthest"]))]))
        else:
            raise Inexpressible("a text" if kind == "read" else f"a step called {kind}")

    def _linear(self, part: Mapping[str, object], start: int, width: int) -> tuple[int, int]:
        program = self._program
        rows = [self._weights(listed(row), width) for row in listed(part["coef"])]
        intercept = many(part["intercept"], len(rows))
        source = program.room(padded(width))
        program.emit(ops.SELECT, source, width, *range(start, start + width))
        program.emit(ops.FLUSH, source, width)
        out = program.dot(source, width, rows, intercept)
        return self._linked(part, out, len(rows))

    def _linked(self, part: Mapping[str, object], out: int, scores: int) -> tuple[int, int]:
        """Compile the link of scores, the last thing that has got room.

        A sigmoid makes two shares of one score.
        """
        program, link = self._program, str(part["link"])
        if link == "sigmoid":
            program.room(1)
            program.emit(ops.LINK, LINKS[link], out, scores)
            return out, 2
        if link != "none":
            program.emit(ops.LINK, LINKS[link], out, scores)
        return out, scores

    def _weights(self, row: Sequence[object], width: int) -> list[float]:
        if row and isinstance(row[0], str):
            return many(self._array(list(row)), width)
        return many(list(row), width)

    def _trees(self, part: Mapping[str, object], start: int, width: int) -> tuple[int, int]:
        program = self._program
        baseline = [float(value) for value in listed(part["baseline"])]
        # Each value twice: a missing one goes right in the first half, and left in the second.
        twice, out = program.room(2 * width), program.room(len(baseline))
        compiled = compile_trees(part, self._reader.array, width)
        first = program.keep([*baseline, float(str(part["divisor"]))])
        program.keep_bounds(compiled.thresholds)
        program.keep_weights(compiled.leaves)
        program.emit(
            ops.TREES, start, width, twice, out, len(baseline), first,
            int(bool(part["single_precision"])), len(compiled.roots), compiled.width,
            len(compiled.thresholds), len(compiled.nodes),
        )  # fmt: skip
        program.emit(*compiled.roots, *compiled.columns, *compiled.nodes)
        return self._linked(part, out, len(baseline))

    def _voted(self, part: Mapping[str, object], start: int, width: int) -> tuple[int, int]:
        program, is_base, self._is_base = self._program, self._is_base, False
        members = listed(part["members"])
        places, count = list[int](), 0
        for _, _, member in members:
            place, count = self._classifier(mapped(member), start, width)
            places.append(place)
        weights = program.keep_weights([float(weight) for _, weight, _ in members])
        out, shares = program.room(count), program.room(len(members))
        program.emit(ops.VOTE, out, count, len(members), shares, weights, *places)
        if is_base:
            self._members = [str(name) for name, _, _ in members], places, shares
        return out, count

    def _columns(
        self, step: Mapping[str, object], row: int, *, with_steps: bool
    ) -> tuple[int, int]:
        """Compile columns of every kind; without their steps they are what heads see."""
        program, made = self._program, list[tuple[int, int]]()
        for part in map(mapped, listed(step["parts"])):
            start, width = self._part(part, row)
            if with_steps:
                start, width = self._prepared(listed(part.get("steps", [])), start, width)
            made.append((start, width))
        total = sum(width for _, width in made)
        out = program.room(total)
        sources = [place for start, width in made for place in range(start, start + width)]
        program.emit(ops.SELECT, out, total, *sources)
        return out, total

    def _part(self, part: Mapping[str, object], row: int) -> tuple[int, int]:
        program, kind = self._program, part["kind"]
        places = [int(place) + row for place in listed(part["places"])]
        if kind == "numbers":
            out = program.room(len(places))
            program.emit(ops.SELECT, out, len(places), *places)
            return out, len(places)
        if kind == "moments":
            out = program.room(3 * len(places))
            program.emit(ops.MOMENTS, out, len(places), *places)
            return out, 3 * len(places)
        if kind not in {"levels", "means"}:
            raise Inexpressible(f"columns called {kind}")
        start = program.size + 1
        encode = self._levels if kind == "levels" else self._means
        for number, place in enumerate(places):
            encode(part, number, place)
        return start, program.size + 1 - start

    def _levels(self, part: Mapping[str, object], number: int, place: int) -> None:
        """Compile one place for each level, and those of missing and of other ones."""
        program, known = self._program, self._array(listed(part["levels"])[number])
        missing, others = map(bool, listed(part["also"])[number])
        out = program.room(len(known) + missing + others)
        first = program.keep(known)
        program.emit(ops.ONE_HOT, place, out, len(known), first, int(missing), int(others))

    def _means(self, part: Mapping[str, object], number: int, place: int) -> None:
        """Compile the numbers that stand for a level."""
        program, known = self._program, self._array(listed(part["levels"])[number])
        width = int(str(part["width"]))
        out = program.room(width)
        values = self._array(listed(part["values"])[number])
        missing = many(listed(part["missing"])[number], width)
        first = program.keep([*known, *many(values, len(known) * width), *missing])
        program.emit(ops.MEANS, place, out, len(known), first, width)

    def _head_columns(self) -> tuple[int, int]:
        """What heads see of a row before it is standardised: where it stands, and how wide."""
        header, base = self._header, mapped(self._header["base"])
        if header.get("kinds") and "families" in header:
            for step in listed(base.get("steps", [])):
                if step["kind"] == "columns":
                    return self._columns(step, 1, with_steps=False)
        # The incumbent's answer, which comes last in a row, is seen as log odds alone.
        return 1, int(str(base["first"])) if base["kind"] == "incumbent" else self._width
