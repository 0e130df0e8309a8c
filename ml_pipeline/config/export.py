"""Settings of labelled rows that are written for what trains elsewhere."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from ml_pipeline.config.base import Section

RowFormat = Literal["csv", "parquet", "jsonl", "chat"]
RowChoice = Literal["all", "errors", "accepted", "rejected"]
ROW_FORMATS: Final[tuple[RowFormat, ...]] = get_args(RowFormat)
ROW_CHOICES: Final[tuple[RowChoice, ...]] = get_args(RowChoice)


class ExportSettings(Section):
    """How `export rows` and the `{dataset}` of `decay.command` write labelled rows.

    `errors` are the confident errors, `accepted` the rows that were answered rightly, `rejected`
    those that were answered wrongly, however sure; an UNCERTAIN answer is neither.
    """

    format: RowFormat = "jsonl"
    only: RowChoice = "all"
    system_prompt: Annotated[str, Field(min_length=1)] | None = None
