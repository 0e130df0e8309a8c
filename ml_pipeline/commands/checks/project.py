"""What is wrong with a Supabase project, by its own report; each check a function."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ml_pipeline.commands.checks.findings import Finding, fault, fine, some, warning
from ml_pipeline.store import schema
from ml_pipeline.store.project_facts import RELOAD_HINT, SERIES_ROWS, ProjectFacts
from ml_pipeline.store.scoring.grants import GRANTABLE

CLOCK_TOLERANCE_S: Final = 60
_INIT: Final = (
    "Run `ml-pipeline init --database-url URL` (or `--print-sql` for the SQL editor), as often as "
    "you like."
)
_PUBLIC: Final = frozenset({"anon", "authenticated", "public"})
_NEEDED: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
# What our own policies narrow down; everything else that a signed-in user holds is too much.
_FOR_USERS: Final[Mapping[str, frozenset[str]]] = {
    "model_retraining_runs": frozenset({"SELECT some columns"}),
    "model_retraining_requests": frozenset(
        {"SELECT", "INSERT some columns", "UPDATE some columns"}
    ),
}

Catalogue = Mapping[str, Any]


def schema_there(facts: ProjectFacts) -> Finding:
    """Whether the schema was ever applied."""
    if facts.version is None and facts.catalogue is None:
        what = "The project's API knows none of the package's tables and functions."
        return fault("schema", what, f"{_INIT} {RELOAD_HINT}")
    return fine("schema", "The package's schema is there.")


def schema_version(facts: ProjectFacts) -> Finding:
    """Whether every file was applied, and none that this package does not know."""
    wanted, name = schema.newest(), "schema_version"
    known, applied = _files(), _applied(facts)
    if known - applied:
        missing = some(f"{number:04d}" for number in known - applied)
        what = (
            f"The schema is outdated: this package needs version {wanted}; missing are {missing}."
        )
        return fault(name, what, _INIT)
    if applied - known:
        return warning(
            name,
            f"The schema has version {max(applied)}, this package knows {wanted}.",
            "Update the package: a newer version of it set the project up.",
        )
    return fine(name, f"The schema has version {wanted}, the newest.")


def _applied(facts: ProjectFacts) -> set[int]:
    """Every applied file, or all up to the highest number."""
    if facts.catalogue is not None:
        return set(facts.catalogue["versions"])
    return {number for number in _files() if number <= (facts.version or 0)}


def _files() -> set[int]:
    """The files' numbers, which may leave some out."""
    return {script.number for script in schema.scripts()}


def tables(catalogue: Catalogue) -> Finding:
    """Whether every table is there."""
    missing = schema.names().tables - {item["name"] for item in catalogue["tables"]}
    if missing:
        return fault("tables", f"Tables are missing: {some(missing)}.", _INIT)
    return fine("tables", "Every table is there.")


def functions(catalogue: Catalogue) -> Finding:
    """Whether every function and trigger is there."""
    names = schema.names()
    missing = names.functions - {item["name"] for item in catalogue["functions"]}
    missing |= {f"trigger {name}" for name in names.triggers - set(catalogue["triggers"])}
    if missing:
        return fault("functions", f"Functions are missing: {some(missing)}.", _INIT)
    return fine("functions", "Every function and trigger is there.")


def indexes(catalogue: Catalogue) -> Finding:
    """Whether every index is there and valid; without them a large log exceeds its time limit."""
    names, name = schema.names(), "indexes"
    found = [item for item in catalogue["indexes"] if item["valid"]]
    missing = names.indexes - {item["name"] for item in found}
    keys = {
        (item["table"], frozenset(item["columns"] or []))
        for item in found
        if item["unique"] and not item["partial"]
    }
    missing |= {f"{table} ({some(columns)})" for table, columns in names.keys - keys}
    if missing:
        return fault(name, f"Indexes are missing or not valid: {some(missing)}.", _INIT)
    return fine(name, "Every index is there and valid.")


def row_level_security(catalogue: Catalogue) -> Finding:
    """Whether row level security is on everywhere."""
    name = "row_level_security"
    off = [item["name"] for item in catalogue["tables"] if not item["rls"]]
    if off:
        lines = "; ".join(f"alter table {table} enable row level security" for table in off)
        what = f"Row level security is off: {some(off)} may be open to everyone."
        return fault(name, what, f"{_INIT} Or in the SQL editor: {lines};")
    return fine(name, "Row level security is on for every table.")


def table_access(catalogue: Catalogue) -> Finding:
    """Whether anonymous callers hold nothing, and signed-in users no more than their own part."""
    ours = schema.names().policies
    opened = [
        f"{item['name']}: {role} may {some(too_much)}"
        for item in catalogue["tables"]
        for role in ("anon", "authenticated")
        if (too_much := _too_much(item, role))
    ]
    opened += [
        f'{policy["table"]}: policy "{policy["name"]}" for {some(policy["roles"])}'
        for policy in catalogue["policies"]
        if policy["schema"] == "public"
        and (policy["table"], policy["name"]) not in ours
        and _is_public(policy)
    ]
    if opened:
        what = f"Tables are open to others than the service role: {some(opened)}."
        do = f"{_INIT} It revokes those rights and drops foreign policies on our tables."
        return fault("table_access", what, do)
    return fine("table_access", "Anonymous callers reach no table, users only their own requests.")


def _too_much(table: Mapping[str, Any], role: str) -> frozenset[str]:
    held = frozenset(table["held"].get(role) or [])
    allowed = _FOR_USERS.get(table["name"], frozenset()) if role == "authenticated" else frozenset()
    return held - allowed


def _is_public(policy: Mapping[str, Any]) -> bool:
    return bool(policy["permissive"] and _PUBLIC & set(policy["roles"]))


def function_access(catalogue: Catalogue) -> Finding:
    """Whether only the service role calls our functions, but for the few made for users."""
    names, name = schema.names(), "function_access"
    allowed = {"anon": frozenset[str](), "authenticated": names.user_functions | {*GRANTABLE}}
    opened = [
        f"{item['name']} ({role})"
        for item in catalogue["functions"]
        for role in allowed
        if item["name"] in names.functions
        and role in item["callers"]
        and item["name"] not in allowed[role]
    ]
    if opened:
        return fault(
            name, f"Functions can be called by others than the service role: {some(opened)}.", _INIT
        )
    granted = sorted(
        item["name"]
        for item in catalogue["functions"]
        if item["name"] in GRANTABLE and "authenticated" in item["callers"]
    )
    if granted:
        return fine(name, f"Signed-in users may call {', '.join(granted)}, as somebody granted.")
    return fine(name, "Nobody but the service role calls the package's functions.")


def service_rights(catalogue: Catalogue) -> Finding:
    """Whether the service role may do its work."""
    name = "service_rights"
    lacking = [
        item["name"]
        for item in catalogue["tables"]
        if not set(item["held"].get("service_role") or []) >= _NEEDED
    ]
    ours = schema.names().functions
    lacking += [
        item["name"]
        for item in catalogue["functions"]
        if item["name"] in ours and "service_role" not in item["callers"]
    ]
    if lacking:
        return fault(name, f"The service role has no right to {some(lacking)}.", _INIT)
    return fine(name, "The service role may use every table and function.")


def buckets(facts: ProjectFacts, catalogue: Catalogue) -> Finding:
    """Whether both buckets are there, in the database and through Storage."""
    name = "buckets"
    there = {item["id"] for item in catalogue["buckets"] or []}
    missing = [bucket for bucket in schema.BUCKETS if bucket not in there]
    if missing:
        do = f"{_INIT} Or make it in the dashboard under Storage, private."
        return fault(name, f"There is no bucket {some(missing)}.", do)
    refused = [bucket for bucket in schema.BUCKETS if bucket not in (facts.storage or ())]
    if refused:
        do = "Check that the project's Storage is on and that the key is its service key."
        return fault(name, f"Storage refuses this key access to {some(refused)}.", do)
    return fine(name, "Both buckets are there.")


def buckets_private(catalogue: Catalogue) -> Finding:
    """Whether no bucket is public."""
    name = "buckets_private"
    public = [item["id"] for item in catalogue["buckets"] or [] if item["public"]]
    if public:
        what = f"Everyone on the internet can download what is in {some(public)}."
        return fault(name, what, f"Make it private in the dashboard under Storage. {_INIT}")
    return fine(name, "No bucket is public.")


def storage_policies(catalogue: Catalogue) -> Finding:
    """Whether no policy opens the buckets: whoever writes there chooses what a server loads."""
    name = "storage_policies"
    opened = [
        policy["name"]
        for policy in catalogue["policies"]
        if policy["schema"] == "storage" and _is_public(policy) and _opens_ours(policy)
    ]
    if opened:
        drops = " ".join(f'drop policy "{policy}" on storage.objects;' for policy in opened)
        what = f"Policies open the buckets of models to everyone: {some(opened)}."
        return fault(name, what, f"The service role needs no policy. In the SQL editor: {drops}")
    return fine(name, "No policy opens the buckets of models.")


def _opens_ours(policy: Mapping[str, Any]) -> bool:
    """A missing condition is the same as the other one."""
    reading, writing = policy["using"], policy["check"]
    return any(map(_lets_in, (reading or writing or "", writing or reading or "")))


def _lets_in(condition: str) -> bool:
    """A condition on other buckets only, or on the service role, lets nobody into ours."""
    if "auth.role()" in condition and "'service_role'" in condition and " OR " not in condition:
        return False
    named = re.findall(r"'([^']+)'", condition) if "bucket_id = " in condition else []
    return not named or bool(set(named) & set(schema.BUCKETS))


def clock(facts: ProjectFacts) -> Finding:
    """Whether this machine and the database agree on the time."""
    ahead = facts.ahead_s or 0.0
    if abs(ahead) > CLOCK_TOLERANCE_S:
        side = "ahead of" if ahead > 0 else "behind"
        what = f"The database's clock is {abs(ahead):.0f} s {side} this machine's."
        do = "Set this machine's clock by NTP: windows and leases are counted with it."
        return fault("clock", what, do)
    return fine("clock", f"The clocks agree within {max(abs(ahead), 1):.0f} s.")


def row_cap(facts: ProjectFacts) -> Finding:
    """How many rows a response holds; the package's own reading does not depend on it."""
    if facts.rows is None:
        what = "It is not known how many rows one response holds."
    elif facts.rows < SERIES_ROWS:
        what = f"A response holds at most {facts.rows} rows; the rest is cut off silently."
    else:
        what = f"A response holds {SERIES_ROWS} rows and more."
    do = "Nothing to do: the package reads in pages. Your own programs must do so as well."
    return fine("row_cap", what, do)


_OF_THE_CATALOGUE: Final[tuple[Callable[[Catalogue], Finding], ...]] = (
    tables,
    functions,
    indexes,
    row_level_security,
    table_access,
    function_access,
    service_rights,
    buckets_private,
    storage_policies,
)


def all_checks(facts: ProjectFacts, *, quick: bool) -> Iterator[Finding]:
    """Every check that the report allows."""
    there = schema_there(facts)
    yield there
    if not there.ok:
        return
    version = schema_version(facts)
    yield version
    if facts.catalogue is None:
        if version.ok and not quick:
            yield fault("functions", "Functions are missing: ml_pipeline_doctor.", _INIT)
        return
    for check in _OF_THE_CATALOGUE:
        yield check(facts.catalogue)
    yield buckets(facts, facts.catalogue)
    yield clock(facts)
    yield row_cap(facts)
