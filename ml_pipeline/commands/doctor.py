"""Check everything a run needs, live, with a remedy for each fault: `ml-pipeline doctor`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from ml_pipeline.commands import common
from ml_pipeline.commands.checks import findings
from ml_pipeline.commands.checks.findings import Finding, fault, fine, warning
from ml_pipeline.config.environment import StoreSettings, load_store_settings
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.errors import ConfigError, PipelineError, StoreUnavailable
from ml_pipeline.store import schema

Clock = Callable[[], datetime]
# A fault of one of these makes every other check of a project impossible.
_BLOCKING = {"credentials", "key_role", "server", "key", "schema"}

EXAMPLES = (
    "doctor",
    "doctor --quick",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `doctor`."""
    common.add_common(parser, *EXAMPLES)
    parser.add_argument("--quick", action="store_true", help="configuration, store, schema version "
        "and champion only, for health checks (default: everything)")  # fmt: skip


def run(args: argparse.Namespace, *, clock: Clock) -> int:
    """Show the findings; exit code 1 on any fault."""
    found = list(_examine(args, clock))
    faulty = any(finding.severity == "fault" for finding in found)
    if not common.is_for_people(args):
        for line in findings.lines(found, is_quiet=args.quiet):
            common.say(line)
    common.answer(
        args,
        {
            "status": "faulty" if faulty else "healthy",
            "findings": [finding.as_json() for finding in found],
        },
        lambda: findings.view(found),
    )
    return 1 if faulty else 0


def _examine(args: argparse.Namespace, clock: Clock) -> Iterator[Finding]:
    settings, chosen = None, None
    try:
        settings = load_settings(common.path_or_none(args.config))
        yield fine("settings", f"The settings are valid; the model name is {settings.model_name}.")
    except ConfigError as error:
        yield fault("settings", error.message, error.hint or "Correct the settings file.")
    try:
        chosen = load_store_settings(args.local)
    except ConfigError as error:
        yield fault("credentials", error.message, error.hint)
    if not args.quick:
        machine = list(_this_machine(settings, chosen))
        yield from machine
        if not all(finding.ok for finding in machine if finding.name == "libraries"):
            return  # what needs them would fail for the same reason
    if chosen is not None:
        yield from _examine_store(settings, chosen, clock, quick=args.quick)


def _this_machine(settings: Settings | None, chosen: StoreSettings | None) -> Iterator[Finding]:
    from ml_pipeline.commands.checks import machine
    from ml_pipeline.commands.checks.page import page
    from ml_pipeline.commands.checks.repository import repository

    libraries = machine.libraries()
    yield libraries
    seen_by = repository()
    if seen_by is not None:
        yield seen_by
    yield page()
    if settings is not None and libraries.ok:
        from ml_pipeline.config.settings import work_dir

        local = None if chosen is None else chosen.local_dir
        yield machine.work_folder(work_dir(settings, local))
        yield machine.private_logs(*_logs(settings, local))


def _examine_store(
    settings: Settings | None, chosen: StoreSettings, clock: Clock, *, quick: bool
) -> Iterator[Finding]:
    if chosen.local_dir is None:
        project = list(_project(chosen, clock, quick=quick))
        yield from project
        if any(finding.name in _BLOCKING and not finding.ok for finding in project):
            return
    if settings is not None:
        yield from _content(settings, chosen, clock(), quick=quick)


def _content(
    settings: Settings, chosen: StoreSettings, now: datetime, *, quick: bool
) -> Iterator[Finding]:
    """The checks of what is in a store of either kind."""
    from ml_pipeline.commands.checks import content, examined, machine
    from ml_pipeline.store.opening import open_store

    if chosen.local_dir is not None and not quick:
        yield machine.file_system(chosen.local_dir)
    try:
        store = open_store(chosen)
    except PipelineError as error:
        yield fault("store", error.message, error.hint)
        return
    try:
        whole = examined.Examined(store=store, settings=settings, now=now)
        if chosen.local_dir is not None:
            yield fine("store", f"The embedded store in {chosen.local_dir} can be opened.")
            yield machine.private_store(Path(chosen.local_dir))
            version = schema.newest("local")
            yield fine("schema_version", f"The schema has version {version}, the newest.")
        for check in content.QUICK if quick else content.FULL:
            yield from examined.guarded(check, whole)
    finally:
        store.close()


def _logs(settings: Settings, local: str | None) -> Iterator[Path]:
    """Where predictions and messages are logged."""
    from ml_pipeline.config.environment import load_logging_settings
    from ml_pipeline.config.quick import evaluation_csv

    yield Path(evaluation_csv(settings.log.csv_file, local))
    messages = load_logging_settings().file
    if messages is not None:
        yield messages


# ------------------------------------------------------------------------------------ Supabase


def _project(chosen: StoreSettings, clock: Clock, *, quick: bool) -> Iterator[Finding]:
    from ml_pipeline.commands.checks.project import all_checks
    from ml_pipeline.store.opening import inspect_project
    from ml_pipeline.store.project_facts import KEY_HINT, key_role

    url, key = chosen.supabase_url, chosen.supabase_key
    if url is None or key is None:
        return
    role = key_role(key)
    if role not in {"service_role", "unknown"}:
        what = f"SUPABASE_SERVICE_KEY holds a key of the role {role}; the service key is needed."
        yield fault("key_role", what, KEY_HINT)
        return
    try:
        facts = inspect_project(chosen, buckets=schema.BUCKETS, clock=clock, quick=quick)
    except PipelineError as error:
        yield _unreachable(url, error)
        return
    yield _server(url)
    yield fine("key", "The key is accepted.")
    yield fine("key_role", "The key is a service key.")
    yield from all_checks(facts, quick=quick)


def _server(url: str) -> Finding:
    """An answer, and whether anybody on the way to it can read the key."""
    import ipaddress
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_near = ipaddress.ip_address(host).is_private
    except ValueError:
        is_near = "." not in host or host.endswith((".local", ".internal", ".localhost"))
    if parts.scheme == "http" and not is_near:
        what = f"{url} answers without encryption: everybody on the way reads the service key."
        return warning("server", what, "Set SUPABASE_URL to the address with https://.")
    return fine("server", f"{url} answers.")


def _unreachable(url: str, error: PipelineError) -> Finding:
    """Why the project did not answer."""
    from ml_pipeline.store.project_facts import KEY_HINT, Refused

    if isinstance(error, ConfigError):
        return fault("credentials", error.message, error.hint)
    if isinstance(error, Refused) and error.wrong_key:
        return fault("key", f"{url} does not accept the key.", KEY_HINT)
    if isinstance(error, Refused) and error.no_right:
        return fault("key_role", f"The key is not a service key: {error.message}", KEY_HINT)
    if isinstance(error, StoreUnavailable):
        do = f"Check SUPABASE_URL, the network, and whether the project is paused. {error.hint}"
        return fault("server", f"{url} cannot be reached: {error.message}", do)
    return fault("server", f"{url}: {error.message}", error.hint)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "doctor",
        __doc__,
        add_arguments,
        lambda args: run(args, clock=lambda: datetime.now(UTC)),
        argv,
    )
