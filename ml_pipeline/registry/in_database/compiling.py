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


# The steps that one instruction does for a linear model.
_STANDARD = ["impute", "scale", "clip"]


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
        program.answer = program.room(count)
        for start, weight in zip(
            [base, *experts], [weights[0], *weights[1 + len(heads) :]], strict=True
        ):
            kept = program.keep_weights([weight])
            program.emit(ops.ADD, source=start, count=count, out=program.answer, first=kept)
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
        program.answer, program.answers = program.select(sources), len(sources)

    def _array(self, place: object) -> list[float]:
        return [float(value) for value in self._reader.array(place)]

    def _ordered(self, part: Mapping[str, object], columns: Sequence[int]) -> int:
        program, count = self._program, len(self._program.classes)
        part, columns = _arranged(part, columns)
        start, _ = self._classifier(part, 1, self._width)
        if list(columns) == list(range(count)):
            return start
        out = program.room(count)
        fill = program.keep([0.0 if len(columns) == count else MIN_PROBABILITY])
        code = [int(column) for column in columns]
        program.emit(ops.ORDER, count, *code, source=start, count=len(code), out=out, first=fill)
        return out

    def _classifier(self, part: Mapping[str, object], start: int, width: int) -> tuple[int, int]:
        """Compile a classifier of the values at `start`; returns where its shares stand."""
        kind = part["kind"]
        if kind == "pipeline":
            steps, last = listed(part["steps"]), mapped(part["last"])
            if last["kind"] == "linear" and [step["kind"] for step in steps] == _STANDARD:
                return self._scored(last, self._standardised(steps, start, width), width)
            start, width = self._prepared(steps, start, width)
            return self._classifier(last, start, width)
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
        program.emit(
            ops.ORDER, count + 1, *range(count), source=start, count=count, out=out, first=nothing
        )
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
                    start = program.select(range(start, start + width))
                self._step(step, start, width)
            is_copy = True
        return start, width

    def _step(self, step: Mapping[str, object], start: int, width: int) -> None:
        program, kind = self._program, step["kind"]
        if kind == "impute":
            first = program.keep(many(step["fill"], width))
            program.emit(ops.IMPUTE, source=start, count=width, first=first)
        elif kind == "scale":
            mean, scale = many(step["mean"], width), many(step["scale"], width)
            first = program.keep([*mean, *scales(scale)])
            program.emit(ops.SCALE, source=start, count=width, first=first)
        elif kind == "clip":
            first = program.keep([float(str(step["farthest"]))])
            program.emit(ops.CLIP, source=start, count=width, first=first)
        else:
            raise Inexpressible("a text" if kind == "read" else f"a step called {kind}")

    def _standardised(self, steps: Sequence[Mapping[str, object]], start: int, width: int) -> int:
        """Compile the standard steps in one, with room for products; returns where it stands."""
        impute, standardise, clip = steps
        mean, scale = many(standardise["mean"], width), scales(many(standardise["scale"], width))
        farthest = float(str(clip["farthest"]))
        fills = [
            min(max((fill - middle) / by, -farthest), farthest)
            for fill, middle, by in zip(many(impute["fill"], width), mean, scale, strict=True)
        ]
        out = self._program.room(padded(width))
        self._program.standardise(
            start, out, fills=fills, mean=mean, scale=scale, farthest=farthest
        )
        return out

    def _linear(self, part: Mapping[str, object], start: int, width: int) -> tuple[int, int]:
        program = self._program
        source = program.select(range(start, start + width), room=padded(width))
        program.emit(ops.FLUSH, source=source, count=width)
        return self._scored(part, source, width)

    def _scored(self, part: Mapping[str, object], source: int, width: int) -> tuple[int, int]:
        """Compile the scores of values that have room for products, and their link."""
        rows = [self._weights(listed(row), width) for row in listed(part["coef"])]
        intercept = many(part["intercept"], len(rows))
        out = self._program.dot(source, width, rows, intercept)
        return self._linked(part, out, len(rows))

    def _linked(self, part: Mapping[str, object], out: int, scores: int) -> tuple[int, int]:
        """Compile the link of scores, the last thing that has got room.

        A sigmoid makes two shares of one score.
        """
        program, link = self._program, str(part["link"])
        if link == "none":
            return out, scores
        if link == "softmax":
            shares = program.room(scores)
            program.shares(out, scores, shares, [1.0])
            return shares, scores
        program.emit(ops.LINK, LINKS[link], source=out, count=scores)
        if link == "sigmoid":
            program.room(1)
            return out, 2
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
            ops.TREES, twice, len(baseline), int(bool(part["single_precision"])),
            len(compiled.roots), compiled.width, len(compiled.thresholds),
            *compiled.roots, *compiled.columns, *compiled.nodes,
            source=start, count=width, out=out, first=first,
        )  # fmt: skip
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
        program.emit(ops.VOTE, len(members), shares, *places, count=count, out=out, first=weights)
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
        sources = [place for start, width in made for place in range(start, start + width)]
        return program.select(sources), total

    def _part(self, part: Mapping[str, object], row: int) -> tuple[int, int]:
        program, kind = self._program, part["kind"]
        places = [int(place) + row for place in listed(part["places"])]
        if kind == "numbers":
            return program.select(places), len(places)
        if kind == "moments":
            out = program.room(3 * len(places))
            program.emit(ops.MOMENTS, *places, count=len(places), out=out)
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
        program.emit(
            ops.ONE_HOT, int(missing), int(others),
            source=place, count=len(known), out=out, first=first,
        )  # fmt: skip

    def _means(self, part: Mapping[str, object], number: int, place: int) -> None:
        """Compile the numbers that stand for a level."""
        program, known = self._program, self._array(listed(part["levels"])[number])
        width = int(str(part["width"]))
        out = program.room(width)
        values = self._array(listed(part["values"])[number])
        missing = many(listed(part["missing"])[number], width)
        first = program.keep([*known, *many(values, len(known) * width), *missing])
        program.emit(ops.MEANS, width, source=place, count=len(known), out=out, first=first)

    def _head_columns(self) -> tuple[int, int]:
        """What heads see of a row before it is standardised: where it stands, and how wide."""
        header, base = self._header, mapped(self._header["base"])
        if header.get("kinds") and "families" in header:
            for step in listed(base.get("steps", [])):
                if step["kind"] == "columns":
                    return self._columns(step, 1, with_steps=False)
        # The incumbent's answer, which comes last in a row, is seen as log odds alone.
        return 1, int(str(base["first"])) if base["kind"] == "incumbent" else self._width


def _arranged(
    part: Mapping[str, object], columns: Sequence[int]
) -> tuple[Mapping[str, object], Sequence[int]]:
    """A linear classifier with a score for each class in the order of these, others as they are."""
    if part["kind"] == "pipeline":
        last, columns = _arranged(mapped(part["last"]), columns)
        return {**part, "last": last}, columns
    if part["kind"] != "linear" or len(listed(part["coef"])) != len(columns):
        return part, columns
    order = sorted(range(len(columns)), key=columns.__getitem__)
    rows = {key: [listed(part[key])[place] for place in order] for key in ("coef", "intercept")}
    return {**part, **rows}, sorted(columns)
