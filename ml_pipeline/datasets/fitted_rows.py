"""Rows on which a base was fitted, recognised when the log brings them.

A base may be trained on labels that people gave, on a file or on an export of the log: rows that
the log holds as well, or will. The online model on that base must neither learn them a second time
nor be judged on them. What is kept of a row are two hashes, 16 bytes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.features import Inputs, parted
from ml_pipeline.datasets.times import days_of

Hashes = NDArray[np.uint64]

EVENT_ID = "event_id"
# What stands in the place of an id that a row does not have.
_NO_ID = 0
_NONE: Hashes = np.empty(0, dtype=np.uint64)
# The keys of a model's record, see `AdaptiveClassifier.line_`.
_IDS, _CONTENTS, _UNTIL = "fitted_ids", "fitted_contents", "fitted_until"


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedRows:
    """Rows of a base that the log has not brought yet: `ids` and `contents` (n,) are hashes.

    A row of the log is one of them when its event id is the row's, or the row's id in another
    table and its inputs and label. Up to the day `until`, when the base was trained, inputs and
    label alone will do, each row of the base for one row of the log; afterwards they may be a new
    case that looks the same.
    """

    ids: Hashes
    contents: Hashes
    until: int

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def none(cls) -> Self:
        """Nothing to recognise."""
        return cls(ids=_NONE, contents=_NONE, until=0)

    @classmethod
    def of(cls, data: Dataset | None, *, until: int, id_column: str) -> Self:
        """The rows of a dataset; `id_column` names their ids where they have no `event_id`."""
        if data is None:
            return cls.none()
        contents = _contents(data.features, data.labels)
        ids = np.full(len(data), _NO_ID, dtype=np.uint64)
        if EVENT_ID in data.frame.columns:
            ids = _event_ids(data.frame[EVENT_ID].fillna("").astype(str).tolist())
        elif id_column in data.frame.columns:
            ids = _row_ids(data.frame[id_column].fillna("").astype(str).tolist(), contents)
        return cls(ids=ids, contents=contents, until=until)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`; models of earlier versions hold nothing of it."""
        if _IDS not in plain:
            return cls.none()
        return cls(ids=plain[_IDS], contents=plain[_CONTENTS], until=plain[_UNTIL])

    def as_dict(self) -> dict[str, Any]:
        """Plain arrays and values, for the artifact."""
        return {_IDS: self.ids, _CONTENTS: self.contents, _UNTIL: self.until}

    def and_those_of(self, other: FittedRows) -> FittedRows:
        """Both; the later day counts for all."""
        return FittedRows(
            ids=np.concatenate([self.ids, other.ids]),
            contents=np.concatenate([self.contents, other.contents]),
            until=max(self.until, other.until),
        )

    def settled(self, night: int | None) -> FittedRows:
        """What may still come once every day up to `night` has been taken in."""
        if night is None or night < self.until or not len(self):
            return self
        # Only ids are looked at from here on.
        kept = self.ids != _NO_ID
        return replace(self, ids=self.ids[kept], contents=self.contents[kept])

    def find(
        self, night: int, event_ids: Sequence[str], features: Inputs, labels: NDArray[np.str_]
    ) -> tuple[NDArray[np.bool_], FittedRows]:
        """Which of a day's rows the base was fitted on, and what is left to recognise."""
        found = np.zeros(len(event_ids), dtype=bool)
        if not len(self):
            return found, self
        contents = _contents(features, labels)
        left = np.ones(len(self), dtype=bool)
        for ids in (_event_ids(event_ids), _row_ids(event_ids, contents)):
            _cross_off(self.ids, ids, found, left)
        if night <= self.until:
            _cross_off(self.contents, contents, found, left)
        if not found.any():
            return found, self
        return found, replace(self, ids=self.ids[left], contents=self.contents[left])


def _cross_off(
    known: Hashes, wanted: Hashes, found: NDArray[np.bool_], left: NDArray[np.bool_]
) -> None:
    """Mark in `found` each wanted row that one of the `left` ones is, and take that one out."""
    rows = np.flatnonzero(~found)
    may_be = rows[np.isin(wanted[rows], known)]
    places: dict[int, list[int]] = defaultdict(list)
    among = np.flatnonzero(left & np.isin(known, wanted[may_be]))
    for place in among[::-1].tolist():
        places[int(known[place])].append(place)
    for row in may_be.tolist():
        candidates = places.get(int(wanted[row]))
        if candidates:
            found[row] = True
            left[candidates.pop()] = False


def _event_ids(event_ids: Sequence[str]) -> Hashes:
    return _hashes([f"event\n{text}".encode() if text else b"" for text in event_ids])


def _row_ids(ids: Sequence[str], contents: Hashes) -> Hashes:
    pairs = zip(ids, contents.tolist(), strict=True)
    return _hashes([f"row\n{content}\n{text}".encode() if text else b"" for text, content in pairs])


def _contents(features: Inputs, labels: NDArray[np.str_]) -> Hashes:
    """A hash of each row's numbers, text and label."""
    numbers, written = parted(features)
    # Every missing value is the same one, and so are both zeros.
    plain = np.where(np.isnan(numbers), np.nan, numbers) + 0.0
    texts = written if written is not None else [""] * len(plain)
    return _hashes(
        [
            b"\n".join([row.tobytes(), str(label).encode(), text.encode()])
            for row, label, text in zip(plain, labels, texts, strict=True)
        ]
    )


def _hashes(parts: Sequence[bytes]) -> Hashes:
    """Eight bytes of each part's hash; of an empty part what no id has."""
    digests = [hashlib.blake2b(p, digest_size=8).digest() if p else bytes(8) for p in parts]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def fitted_among(fitted: FittedRows, data: Dataset) -> NDArray[np.bool_]:
    """Which rows of the log a base was fitted on, day after day."""
    known = np.zeros(len(data), dtype=bool)
    if not len(fitted) or data.times is None or EVENT_ID not in data.frame.columns:
        return known
    event_ids = data.frame[EVENT_ID].astype(str)
    nights = days_of(data.times)
    order = pd.DataFrame({"night": nights, "id": event_ids.to_numpy(dtype=str)})
    for night, rows in order.sort_values(["night", "id"]).groupby("night", sort=True):
        places = rows.index.to_numpy()
        found, fitted = fitted.find(
            int(str(night)), rows["id"].tolist(), data.features[places], data.labels[places]
        )
        known[places] = found
    return known
