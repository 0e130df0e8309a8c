"""What everything that votes answers of a night's rows, from which the night is then learned.

A night of very many rows is asked piece by piece: what is kept of its answers does not grow with
the voters, and inputs of heads are made again when they are learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.metrics import Floats
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.heads.large import LargeLesson, Places, parts_of
from ml_pipeline.training.heads.memory import Memory, Seen
from ml_pipeline.training.heads.newton import Lesson, voters_losses
from ml_pipeline.training.online.past import Past
from ml_pipeline.training.online.rows import Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Of n rows: the vote `live` (n, K), the `champion`'s (n, K), and what can be learned now."""

    live: Floats
    champion: Floats
    lesson: Lesson | LargeLesson


def answers_to(  # noqa: PLR0913, PLR0917 - a model, heads of now and of before, rows, who serves
    model: AdaptiveClassifier,
    memory: Memory,
    past: Past,
    rows: Rows,
    fresh: NDArray[np.bool_],
    champion: Callable[[Rows, Seen], Floats],
) -> Answers:
    """Ask all of them; the vote is judged on the `fresh` (n,) rows alone."""
    parts = list(parts_of(len(rows), rows.base.shape[1]))
    if len(parts) > 1:
        return _piece_by_piece(model, memory, past, rows, fresh, champion, parts)
    seen = model.seen(rows.features, rows.base)
    opinions, live = past.answers(memory, seen, rows.predicted)
    lesson = Lesson(
        inputs=opinions.inputs,
        actual=rows.actual,
        weights=rows.weights,
        opinions=opinions.shares,
        fresh=fresh,
    )
    return Answers(live=live, champion=champion(rows, seen), lesson=lesson)


def _piece_by_piece(  # noqa: PLR0913, PLR0917 - as above
    model: AdaptiveClassifier,
    memory: Memory,
    past: Past,
    rows: Rows,
    fresh: NDArray[np.bool_],
    champion: Callable[[Rows, Seen], Floats],
    parts: Sequence[slice],
) -> Answers:
    live, by_champion = np.empty_like(rows.base), np.empty_like(rows.base)
    losses, heard = list[Floats](), list[Floats]()
    for part in parts:
        some = rows.take(part)
        seen = model.seen(some.features, some.base)
        opinions, live[part] = past.answers(memory, seen, some.predicted)
        by_champion[part] = champion(some, seen)
        found = voters_losses(opinions.shares, some.actual, some.weights, fresh[part])
        losses += [] if found is None else [found]
        heard.append(opinions.inputs[0][:, seen.inputs[0].shape[1] :].copy())
    lesson = LargeLesson(
        inputs=_inputs_of(model, rows, np.vstack(heard)),
        actual=rows.actual,
        weights=rows.weights,
        n_classes=rows.base.shape[1],
        losses=np.sum(losses, axis=0) if losses else None,
    )
    return Answers(live=live, champion=by_champion, lesson=lesson)


def _inputs_of(
    model: AdaptiveClassifier, rows: Rows, heard: Floats
) -> Callable[[Places], tuple[Floats, ...]]:
    """The heads' inputs of some of the rows, whose experts' log odds (n, E) are known."""

    def inputs(places: Places) -> tuple[Floats, ...]:
        seen = model.seen(rows.features[places], rows.base[places]).inputs
        if not heard.shape[1]:
            return seen
        return tuple(np.hstack([one, heard[places]]) for one in seen)

    return inputs
