"""Which rows belong to one entity: a match, a customer, whatever has one id and several rows.

A model that has learned an entity knows more of its other rows than of a stranger's: it may not be
judged on them. What is remembered of an entity is a number of 32 bits.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.datasets.dataset import ALONE, Dataset

Entities = NDArray[np.uint32]
NO_ENTITY: Final = 0
# A model remembers so many, those seen last: a quarter of a megabyte. One that comes back after
# so many others counts as new; of strangers, one in 65,536 is taken for one that is known.
MOST_REMEMBERED: Final = 65_536


def entities_of(data: Dataset) -> Entities:
    """The entity of each row, (n,); NO_ENTITY for a row that belongs to none."""
    if data.groups is None:
        return np.zeros(len(data), dtype=np.uint32)
    names, places = np.unique(data.groups, return_inverse=True)
    return np.asarray([_number(name) for name in names.tolist()], dtype=np.uint32)[places]


def _number(name: str) -> int:
    if name.startswith(ALONE):
        return NO_ENTITY
    digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") or 1


def learned_entities(learned: Dataset, past: Dataset | None) -> Entities:
    """The entities of the rows of a base, those of the training data beside the log first."""
    entities = entities_of(learned)
    return entities if past is None else np.concatenate([entities_of(past), entities])


def are_known(entities: Entities, known: Entities) -> NDArray[np.bool_]:
    """Which rows belong to an entity that is among the known ones, (n,)."""
    if not len(known):
        return np.zeros(len(entities), dtype=bool)
    return np.asarray(np.isin(entities, known) & (entities != NO_ENTITY))


def remembered(known: Entities, entities: Entities) -> Entities:
    """The known entities and those of further rows, the ones seen last at the end."""
    if not entities.any():
        return known
    everything = np.concatenate([known, entities[entities != NO_ENTITY]])[::-1]
    _, first = np.unique(everything, return_index=True)
    return np.asarray(everything[np.sort(first)][:MOST_REMEMBERED][::-1], dtype=np.uint32)
