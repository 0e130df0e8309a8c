"""The trees of a scoring file as a program has them: a leaf is a number below 0, no node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ml_pipeline.registry.scoring_parts import listed


@dataclass(frozen=True, kw_only=True, slots=True)
class CompiledTrees:
    """What a walk through trees needs.

    Inner nodes count from 1, and -n is the nth leaf. `nodes` has three places of each inner node:
    the value asked, and where the walk goes when it is at most the threshold, and else.
    """

    roots: list[int]
    columns: list[int]
    nodes: list[int]
    thresholds: list[float]
    leaves: list[float]
    width: int


def compile_trees(
    part: Mapping[str, object], array: Callable[[object], Sequence[float]], width: int
) -> CompiledTrees:
    """Trees of `width` values. Raises IndexError for one that leads elsewhere than forward."""
    feature, threshold, right, missing, leaves = (
        list(array(part[name]))
        for name in ("feature", "threshold", "right", "missing_left", "values")
    )
    # The number of each node among the inner ones, or of its leaf.
    target, count = list[int](), 0
    for asked, row in zip(feature, right, strict=True):
        count += asked >= 0
        target.append(count if asked >= 0 else -1 - int(row))
    nodes, thresholds = list[int](), list[float]()
    for node, asked in enumerate(feature):
        if asked < 0:
            continue
        if right[node] <= node or asked >= width:
            raise IndexError("a tree leads backwards")
        value = int(asked) + (width if missing[node] else 0)
        nodes += [value, target[node + 1], target[int(right[node])]]
        thresholds.append(float(threshold[node]))
    return CompiledTrees(
        roots=[target[int(root)] for root in listed(part["roots"])],
        columns=[int(column) for column in listed(part["columns"])],
        nodes=nodes,
        thresholds=thresholds,
        leaves=[float(value) for value in leaves],
        width=int(str(part["width"])),
    )
