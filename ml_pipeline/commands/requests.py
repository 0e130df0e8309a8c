"""People's requests for a run: ask for one, see the queue, take one back."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from ml_pipeline.commands import common
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.runs.requests import submit_request
from ml_pipeline.store.json_values import request_json
from ml_pipeline.store.queue.contract import RequestQueue
from ml_pipeline.store.records import Priority, RequestStatus

if TYPE_CHECKING:
    from ml_pipeline.reports.terminal import Part

EXAMPLES = (
    'requests submit --reason "new products" --priority high',
    "requests list",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `requests`."""
    common.add_common(parser, *EXAMPLES)
    actions = common.add_actions(parser)
    submit = common.add_action(
        actions,
        "submit",
        "ask for a run; the next one serves it",
        'requests submit --reason "new products" --priority high',
    )
    submit.add_argument("--reason", default="", help="why, for whoever reads the queue")
    submit.add_argument(
        "--priority",
        choices=[str(priority) for priority in Priority],
        default=str(Priority.NORMAL),
        help="which are served first (default: %(default)s)",
    )
    submit.add_argument(
        "--requested-by", type=_user, metavar="UUID", help="who asks (default: nobody is named)"
    )
    listing = common.add_action(
        actions,
        "list",
        "requests in the order in which they are served",
        "requests list",
        "requests list --status pending",
    )
    listing.add_argument(
        "--status",
        metavar="STATUS",
        choices=[str(status) for status in RequestStatus],
        help="%(choices)s (default: all)",
    )
    cancel = common.add_action(
        actions, "cancel", "take back a request that still waits", "requests cancel REQUEST_ID"
    )
    cancel.add_argument("request_id")


def _user(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not the id of a user") from None


def run(args: argparse.Namespace, *, now: datetime, new_id: str) -> int:
    """Submit, list or cancel."""
    from ml_pipeline.store.opening import open_store

    settings = load_settings(common.path_or_none(args.config))
    store = open_store(load_store_settings(args.local))
    try:
        result = _act(store, args, settings, now=now, new_id=new_id)
    finally:
        store.close()
    common.answer(args, result, lambda: view(result))
    return 0


def view(result: Mapping[str, Any]) -> Iterator[Part]:
    """The queue as a table, one request as its names and values."""
    from ml_pipeline.reports import terminal

    if "requests" not in result:
        yield terminal.facts({name: value for name, value in result.items() if value is not None})
        return
    rows = [
        (it["id"], it["created_at"][:16].replace("T", " "), it["status"], it["priority"],
         it["reason"])
        for it in result["requests"]
    ]  # fmt: skip
    if not rows:
        yield "The queue is empty. `ml-pipeline requests submit --reason WHY` asks for a run."
        return
    columns = ("id", "requested", "status", "priority", "reason")
    yield terminal.table("", columns, rows, fold=True)


def _act(
    store: RequestQueue, args: argparse.Namespace, settings: Settings, *, now: datetime, new_id: str
) -> dict[str, Any]:
    if args.action == "submit":
        submitted = submit_request(
            store,
            settings,
            reason=args.reason,
            priority=Priority(args.priority),
            now=now,
            new_id=new_id,
            requested_by=args.requested_by,
        )
        return request_json(submitted)
    if args.action == "cancel":
        return request_json(store.cancel(args.request_id, now=now))
    status = None if args.status is None else RequestStatus(args.status)
    found = store.list_requests(model_name=settings.model_name, status=status)
    return {"requests": [request_json(request) for request in found]}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "requests",
        __doc__,
        add_arguments,
        lambda args: run(args, now=datetime.now(UTC), new_id=str(uuid4())),
        argv,
    )
