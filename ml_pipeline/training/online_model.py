"""The online model: labelled rows, day by day, scored first and learned afterwards.

The state is a pure function of the base and the labelled rows ordered by UTC day and event id.
Seven runs, one run after a week's outage and a rebuild from the log end in the same state.
Scores taken before a row is learned are out-of-sample by construction; their sums per night are
the ledger on which the gate decides. A row of an entity that was learned before is learned as well,
but counts neither there nor in the vote: it says how well the entity is known, not what a stranger
would be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.sections import AdaptiveSettings
from ml_pipeline.datasets.entities import Entities, are_known, remembered
from ml_pipeline.datasets.features import joined, parted
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.betting import Wealth
from ml_pipeline.evaluation.ledger import (
    COLUMN,
    LEDGER_COLUMNS,
    ScoredRows,
    entry_of,
    former_wealth,
    with_all_columns,
)
from ml_pipeline.evaluation.metrics import Floats, row_losses
from ml_pipeline.training.adaptive import AdaptiveClassifier, by_family
from ml_pipeline.training.heads.memory import Expert, Memory, Seen
from ml_pipeline.training.online.answers import Answers, answers_to
from ml_pipeline.training.online.past import Past
from ml_pipeline.training.online.rows import Rows

QUARANTINE_NIGHTS = 28
QUARANTINE_MIN_NIGHTS = 7
QUARANTINE_DEVIATIONS = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OnlineState:
    """What an online model has learned: memory, what waits, the last day, and the record.

    `night` is the last day taken in (proleptic ordinal), None before the first; `waiting` are rows
    of days too small to learn alone, `held` a quarantined night; `ledger` (nights, columns) has
    LEDGER_COLUMNS, `champions` names who served on each of its nights, and `votes` (nights, V)
    is the vote after it, NaN for nights of which it was not kept, 0 for who did not vote yet.
    `wealth` is what the ledger proves against the champions, in the shadow against those of the
    base that serves; `entities` are those learned, as `entities.remembered` keeps them; `past` are
    the heads of before that late outcomes ask for.
    """

    memory: Memory
    waiting: Rows
    held: Rows
    ledger: Floats
    votes: Floats
    champions: tuple[str, ...] = ()
    night: int | None = None
    first_night: int | None = None
    last_event_id: str | None = None
    rows_seen: int = 0
    rows_digest: str = ""
    wealth: Wealth = field(default_factory=Wealth)
    entities: Entities = field(default_factory=lambda: np.empty(0, dtype=np.uint32))
    past: Past = field(default_factory=Past)

    @classmethod
    def fresh(cls, model: AdaptiveClassifier) -> OnlineState:
        """The state of a model that has seen nothing and predicts as its base does."""
        memory = model.fresh_memory()
        return cls(
            memory=memory,
            waiting=Rows.none(model),
            held=Rows.none(model),
            ledger=np.empty((0, len(LEDGER_COLUMNS))),
            votes=np.empty((0, len(memory.vote))),
        )

    @classmethod
    def of(cls, model: AdaptiveClassifier) -> OnlineState:
        """The state that a model carries. Raises DataError when it carries none."""
        if model.line_ is None:
            raise DataError("The model to fine-tune carries no record of the days it has learned.")
        state = cls.from_dict(model.line_)
        return state.with_experts_of(model)

    def with_experts_of(self, model: AdaptiveClassifier) -> OnlineState:
        """The same state with the experts that the model carries for it."""
        now = model.memory()
        memory = replace(self.memory, experts=now.experts, heard=now.heard)
        return replace(self, memory=memory)

    def with_experts(self, experts: tuple[Expert, ...], *, weight: float) -> OnlineState:
        """The same state with these experts; see `Memory.with_experts`."""
        memory = self.memory.with_experts(experts, weight=weight)
        first = 1 + memory.n_heads
        places = {e.name: first + place for place, e in enumerate(self.memory.experts)}

        def moved(before: Floats) -> Floats:
            votes = np.zeros((len(before), len(memory.vote)))
            votes[:, :first] = before[:, :first]
            for place, expert in enumerate(experts):
                if expert.name in places:
                    votes[:, first + place] = before[:, places[expert.name]]
            return votes

        past = self.past
        if len(past.votes):
            votes = moved(past.votes)
            past = past.with_votes(votes / votes.sum(axis=1, keepdims=True))
        return replace(self, memory=memory, votes=moved(self.votes), past=past)

    def as_dict(self) -> dict[str, Any]:
        """Plain arrays and values, for the artifact."""
        plain: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "ledger",
                "votes",
                "night",
                "first_night",
                "last_event_id",
                "rows_seen",
                "rows_digest",
                "entities",
            )
        }
        plain |= self.past.as_dict()
        plain["wealth"] = self.wealth.as_list()
        plain["champions"] = list(self.champions)
        for name in ("waiting", "held"):
            rows = getattr(self, name)
            parts = (*_ROW_PARTS, *_LATER_ROW_PARTS)
            plain |= {f"{name}_{part}": getattr(rows, part) for part in parts}
            # An archive keeps no shape of an empty array of objects.
            numbers, texts = parted(rows.features)
            plain |= {f"{name}_features": numbers, f"{name}_texts": texts}
            plain[f"{name}_event_ids"] = list(rows.event_ids)
        memory = self.memory
        return plain | {
            "memory_heads": list(memory.heads),
            "memory_precisions": None if memory.precisions is None else list(memory.precisions),
            "memory_vote": memory.vote,
            "memory_last_night": memory.last_night,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> OnlineState:
        """The inverse of `as_dict`, also of what earlier versions wrote."""
        ledger, kept = plain["ledger"], plain.get("wealth")
        rows = {
            name: Rows(
                **{part: plain[f"{name}_{part}"] for part in _ROW_PARTS},
                features=joined(plain[f"{name}_features"], plain.get(f"{name}_texts")),
                event_ids=tuple(plain[f"{name}_event_ids"]),
                **{
                    part: plain[f"{name}_{part}"]
                    for part in _LATER_ROW_PARTS
                    if f"{name}_{part}" in plain
                },
            )
            for name in ("waiting", "held")
        }
        heads, precisions = plain["memory_heads"], plain["memory_precisions"]
        memory = Memory(
            heads=by_family(heads),
            precisions=None if precisions is None else by_family(precisions),
            vote=plain["memory_vote"],
            last_night=plain["memory_last_night"],
        )
        return cls(
            memory=memory,
            ledger=with_all_columns(ledger),
            votes=plain.get("votes", np.full((len(ledger), len(memory.vote)), np.nan)),
            champions=tuple(plain["champions"]),
            night=plain["night"],
            first_night=plain["first_night"],
            last_event_id=plain["last_event_id"],
            rows_seen=plain["rows_seen"],
            rows_digest=plain["rows_digest"],
            wealth=former_wealth(ledger) if kept is None else Wealth.from_list(kept),
            entities=plain.get("entities", np.empty(0, dtype=np.uint32)),
            past=Past.from_dict(plain),
            **rows,
        )


_ROW_PARTS = ("base", "actual", "weights")
# Models of before have none of these.
_LATER_ROW_PARTS = ("entities", "predicted", "served")


@dataclass(frozen=True, kw_only=True, slots=True)
class Incumbent:
    """The serving champion: its heads, and the rows that it has learned already.

    It has learned every day up to `settled_night`, the events `learned` of later days, and rows of
    the `entities`. `model` is the champion itself where it stands on another base; then nights from
    `compared_from` on are evidence against it, and those before against a base that served before.
    """

    model_id: str
    memory: Memory
    model: AdaptiveClassifier | None = None
    learned: frozenset[str] = frozenset()
    settled_night: int | None = None
    entities: Entities = field(default_factory=lambda: np.empty(0, dtype=np.uint32))
    compared_from: int | None = None

    def proven(self, state: OnlineState) -> Wealth:
        """What the state's record proves against the base that serves."""
        last = state.ledger[-1:, COLUMN["night"]]
        is_earlier = self.compared_from is not None and bool((last < self.compared_from).any())
        return Wealth() if is_earlier else state.wealth

    def having_learned(self, event_ids: Iterable[str]) -> Incumbent:
        """The same champion, with further rows that it has learned."""
        return replace(self, learned=self.learned.union(event_ids))

    def predict(self, rows: Rows, seen: Seen) -> Floats:
        """Its probabilities (n, K); `seen` are the rows as heads of the online model see them."""
        if self.model is not None:
            return self.model.predict_proba(rows.features)
        return self.memory.vote_on(self.memory.opinions(seen))

    def unseen(self, night: int, rows: Rows) -> NDArray[np.bool_]:
        """Which of a night's rows the champion has not learned, nor others of their entity."""
        if self.settled_night is not None and night <= self.settled_night:
            return np.zeros(len(rows), dtype=bool)
        is_new = [event_id not in self.learned for event_id in rows.event_ids]
        return np.asarray(is_new, dtype=bool) & ~are_known(rows.entities, self.entities)


@dataclass(frozen=True, kw_only=True, slots=True)
class NightScores(ScoredRows):
    """One night scored before it was learned."""

    rows: Rows


def take_in(  # noqa: PLR0913, PLR0917 - a model, its state, a day's rows and rules
    model: AdaptiveClassifier,
    state: OnlineState,
    night: int,
    rows: Rows,
    incumbent: Incumbent,
    adaptive: AdaptiveSettings,
) -> tuple[OnlineState, NightScores | None]:
    """Take in a day's rows, in the order of their event ids, and learn as soon as enough wait.

    Returns the state after it, and the scores if a night was learned. Raises ValueError for a day
    taken in already.
    """
    state = take_day(state, night, rows)
    if len(state.waiting) < adaptive.min_night_rows:
        return state, None
    return take_night(model, state, night, incumbent, adaptive)


def take_day(state: OnlineState, night: int, rows: Rows) -> OnlineState:
    """Let a day's rows wait to be learned. Raises ValueError for a day taken in already."""
    if state.night is not None and night <= state.night:
        message = f"day {night} comes after day {state.night} was taken in"
        raise ValueError(message)
    return replace(
        state,
        night=night,
        first_night=night if state.first_night is None else state.first_night,
        waiting=state.waiting.followed_by(rows),
        last_event_id=rows.event_ids[-1] if len(rows) else state.last_event_id,
        rows_seen=state.rows_seen + len(rows),
        rows_digest=rows.digest(state.rows_digest, night) if len(rows) else state.rows_digest,
    )


def take_night(  # noqa: PLR0913 - a model, its state, a night and rules
    model: AdaptiveClassifier,
    state: OnlineState,
    night: int,
    incumbent: Incumbent,
    adaptive: AdaptiveSettings,
    *,
    quarantine: bool = True,
) -> tuple[OnlineState, NightScores]:
    """Score the waiting rows, enter them into the ledger, then learn them.

    Without `quarantine` a strange night is learned whatever the settings say.
    """
    rows = state.waiting
    quarantine = quarantine and adaptive.quarantine
    anchor = rows.base
    fresh = ~are_known(rows.entities, state.entities)
    answers = answers_to(model, state.memory, state.past, rows, fresh, incumbent.predict)
    # What people were answered goes before what they would have been.
    served = np.asarray(np.isfinite(rows.served).all(axis=1))
    live = np.where(served[:, None], rows.served, answers.live)
    strange = quarantine and not len(state.held) and _is_strange(state.ledger, rows, live, fresh)
    scores = NightScores(
        night=night,
        rows=rows,
        actual=rows.actual,
        weights=rows.weights,
        entities=rows.entities,
        live=live,
        anchor=anchor,
        champion=answers.champion,
        fresh=fresh,
        unseen=fresh & incumbent.unseen(night, rows),
        served=served,
        quarantined=strange,
    )
    nothing = Rows.none(model)
    memory = state.memory if strange else _learned(model, state, night, answers)
    learned = nothing if strange else state.held.followed_by(rows)
    entry, proof = entry_of(scores, adaptive.full_weight)
    after = replace(
        state,
        memory=memory,
        waiting=nothing,
        held=rows if strange else nothing,
        ledger=np.vstack([state.ledger, entry]),
        wealth=incumbent.proven(state).plus(proof),
        entities=remembered(state.entities, learned.entities),
        votes=np.vstack([state.votes, memory.vote]),
        champions=(*state.champions, incumbent.model_id),
        past=state.past if strange else state.past.after(state.memory, night, learned.predicted),
    )
    return after, scores


def _learned(model: AdaptiveClassifier, state: OnlineState, night: int, answers: Answers) -> Memory:
    """The memory after the waiting rows, to which everything that votes gave those answers."""
    lesson = answers.lesson
    if len(state.held):
        rows = state.held.followed_by(state.waiting)
        fresh = ~are_known(rows.entities, state.entities)
        lesson = answers_to(
            model, state.memory, state.past, rows, fresh, lambda some, _: some.base
        ).lesson
    return state.memory.learn(lesson, night, model.rates_())


def _is_strange(ledger: Floats, rows: Rows, live: Floats, fresh: NDArray[np.bool_]) -> bool:
    """Whether the night's mean loss is over its recent mean by four standard deviations."""
    recent = ledger[ledger[:, COLUMN["rows"]] > 0][-QUARANTINE_NIGHTS:]
    if len(recent) < QUARANTINE_MIN_NIGHTS or not fresh.any():
        return False
    means = recent[:, COLUMN["live_loss"]] / recent[:, COLUMN["weight"]]
    losses, weights = row_losses(rows.actual, live)[fresh], rows.weights[fresh]
    mean_loss = float(losses @ weights / weights.sum())
    return mean_loss > float(means.mean() + QUARANTINE_DEVIATIONS * means.std(ddof=1))
