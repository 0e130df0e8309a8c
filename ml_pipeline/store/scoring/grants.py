"""Functions of a Supabase project that signed-in users may be granted, and what that means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ROLES: Final = ("authenticated",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grantable:
    """A function with its signature; `meaning` says what whoever may call it can do."""

    signature: str
    meaning: str


GRANTABLE: Final = {
    "predict": Grantable(
        signature="predict(text, jsonb, text, boolean)",
        meaning="ask every model that serves in this project, as often as they like; each answer "
        "is logged with what they sent and the id of their account, and an outcome that you tell "
        "by entity_id, not by event_id, is also that of what they sent under it, which the next "
        "run learns",
    ),
    "predict_batch": Grantable(
        signature="predict_batch(text, jsonb, boolean)",
        meaning="ask for up to 10,000 answers at once, which keeps the database busy for seconds",
    ),
    "correct": Grantable(
        signature="correct(text, jsonb, text, boolean, jsonb, text, double precision)",
        meaning="have every answer corrected that they say an incumbent gave; each is logged with "
        "it and with what they sent, and the next run learns from both once the outcome is known",
    ),
    "record_outcome": Grantable(
        signature="record_outcome(text, text, uuid, text, boolean, timestamptz)",
        meaning="say what really happened with what they asked themselves, and with nothing else; "
        "the next run learns it, so somebody who lies teaches the model wrong results",
    ),
    "add_label": Grantable(
        signature="add_label(text, text, text, jsonb, text)",
        meaning="put labels of rows of their own making into ml_data, from which `train "
        "--from-table` learns",
    ),
}


def grant_sql(names: Sequence[str], role: str) -> str:
    """Statements that give the functions to the role."""
    return (
        f"grant execute on function {_functions(names)} to {role};\n"
        "notify pgrst, 'reload schema';\n"
    )


def meaning(names: Sequence[str]) -> str:
    """What the grant means, for the person who gives it."""
    what = "; ".join(f"{name}: {GRANTABLE[name].meaning}" for name in names)
    return (
        "By this grant every account of your app may do the following, anonymous sign-ins "
        f"included, which cost nothing and have no limit of ours. {what}. To take it back: "
        f"`revoke execute on function {_functions(names)} from authenticated`."
    )


def _functions(names: Sequence[str]) -> str:
    return ", ".join(f"public.{GRANTABLE[name].signature}" for name in names)
