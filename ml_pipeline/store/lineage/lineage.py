"""The lineage of a model, as its row keeps it, and the reference to stored bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime
from typing import Any, Self

from ml_pipeline.store.lineage.open_rows import OpenRows

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactRef:
    """Stored bytes and their name. `digest` is `sha256:` + hex, `size` is in bytes."""

    bucket: str
    path: str
    digest: str
    size: int

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest):
            message = f"not a digest of the form sha256:hex: {self.digest!r}"
            raise ValueError(message)
        if self.size < 0:
            message = f"an artifact cannot have {self.size} bytes"
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """What the next run needs to know of a model without opening its artifact.

    A *night* is a UTC day of rows, as `date.toordinal` counts. The online model has taken in every
    day from `first_night` to `settled_night`, and of the days after it the events of `open_rows`
    (older records: `open_event_ids`). The log then held `log_rows` labelled rows of the days from
    `counted_from` (older records: from `first_night`) to `settled_night`, `first_night_rows` of
    them on the first, and had noted `log_changes` changes of rows known until then, `open_changes`
    of later ones. `snapshots` are earlier nights after which its state was kept, with the
    labelled rows that the log held of the days until then. `experts` are the nights on which
    experts were fitted, by their names. `rebuilds` counts how often the lineage has begun anew from
    its base, or from a member that a person went back to (older records: None for never): results
    may have been taken back, and later settled days need not mean that more is known.

    A base has learned rows of up to `learned_until`, and its online models keep that time. A
    shadow has been there since `shadow_since`, with heads that were `fresh` or `carried` over.
    `calibration` is what `evaluation.evidence.calibrate` found, `classes` are the model's.
    `rates` are the settings of its heads, a base's `reference` is the summary of its inputs,
    and `inputs` are the names of what it reads: `features`, and a `text_column` or none. `labels`
    are the spellings of `data.labels` by which the log was read (older records: None).

    In the database it is a JSON object with a key for each field. `rest` is what else stood in the
    object that was read, keys that only a newer version knows and empty ones: it is written again.
    """

    settled_night: int | None = None
    first_night: int | None = None
    log_rows: int | None = None
    first_night_rows: int | None = None
    counted_from: int | None = None
    log_changes: int | None = None
    open_changes: int | None = None
    rebuilds: int | None = None
    open_event_ids: tuple[str, ...] | None = None
    open_rows: OpenRows | None = None
    snapshots: Mapping[str, int] | None = None
    experts: Mapping[str, int] | None = None
    learned_until: datetime | None = None
    shadow_since: date | None = None
    shadow_heads: str | None = None
    scoring: ArtifactRef | None = None
    calibration: Mapping[str, Any] | None = None
    classes: tuple[str, ...] | None = None
    rates: Mapping[str, Any] | None = None
    reference: Mapping[str, Any] | None = None
    inputs: Mapping[str, Any] | None = None
    labels: Mapping[str, str] | None = None
    rest: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (item.name for item in fields(self) if item.type == "int | None"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 0):
                message = f"{name} of a lineage is {value!r}, no whole number"
                raise ValueError(message)
        if self.learned_until is not None and self.learned_until.tzinfo is None:
            message = f"learned_until has no time zone: {self.learned_until.isoformat()}"
            raise ValueError(message)

    @property
    def learned_open_rows(self) -> OpenRows:
        """What has been learned of days that are not settled."""
        return self.open_rows or OpenRows.of(self.open_event_ids or ())

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote. Raises ValueError or TypeError for something else."""
        known = {item.name for item in fields(cls)} - {"rest"}
        filled = {name for name in known if stored.get(name) is not None}
        values: dict[str, Any] = {
            name: _LINEAGE_READERS.get(name, _same)(value)
            for name, value in stored.items()
            if name in filled
        }
        rest = {name: value for name, value in stored.items() if name not in filled}
        return cls(**values, rest=rest)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = [item.name for item in fields(self) if item.name != "rest"]
        filled = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {
            **self.rest,
            **{name: _LINEAGE_WRITERS.get(name, _same)(value) for name, value in filled.items()},
        }


def _same(value: object) -> object:
    return value


_LINEAGE_READERS: Mapping[str, Callable[[Any], object]] = {
    "learned_until": datetime.fromisoformat,
    "classes": tuple,
    "open_event_ids": tuple,
    "open_rows": OpenRows.from_json,
    "scoring": lambda stored: ArtifactRef(**stored),
    "shadow_since": date.fromisoformat,
}
# What is not named here is plain already.
_LINEAGE_WRITERS: Mapping[str, Callable[[Any], object]] = {
    "classes": list,
    "learned_until": datetime.isoformat,
    "open_event_ids": list,
    "open_rows": OpenRows.as_json,
    "scoring": asdict,
    "shadow_since": date.isoformat,
}
