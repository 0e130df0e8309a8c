"""A Supabase project's report about itself, which `doctor` judges."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from ml_pipeline.errors import StoreRefused

SERIES_ROWS: Final = 10_001
KEY_HINT: Final = (
    "SUPABASE_SERVICE_KEY must be the project's service_role key or an sb_secret_… key; copy it "
    "from the project's settings."
)

RELOAD_HINT: Final = (
    "If it was run already, the API's copy of the schema is stale: run "
    "`notify pgrst, 'reload schema';` in the SQL editor, or restart the project."
)


class Refused(StoreRefused):
    """A refusal by its kind: each needs another remedy."""

    def __init__(
        self, message: str, *, hint: str, wrong_key: bool, no_right: bool, unknown: bool
    ) -> None:
        super().__init__(message, hint=hint)
        self.wrong_key = wrong_key
        self.no_right = no_right
        self.unknown = unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectFacts:
    """A project's report. `version` and `catalogue` are None where their functions are missing.

    `ahead_s` is by how many seconds its clock is ahead of ours, `rows` how many of
    `SERIES_ROWS` rows arrive in one answer, `storage` which of the buckets Storage hands out.
    """

    version: int | None
    catalogue: Mapping[str, Any] | None = None
    ahead_s: float | None = None
    rows: int | None = None
    storage: tuple[str, ...] | None = None


def key_role(key: SecretStr) -> str:
    """The role that a key names, `unknown` when it names none."""
    text = key.get_secret_value()
    if text.startswith("sb_"):
        return {"sb_secret": "service_role", "sb_publishable": "anon"}.get(
            "_".join(text.split("_")[:2]), "unknown"
        )
    try:
        payload = text.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["role"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return "unknown"
