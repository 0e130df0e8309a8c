"""People's requests for a run: ask for one, see the queue, take one back."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from ml_pipeline import commands, config
from ml_pipeline.config import Settings
from ml_pipeline.domain import OpenLimits, Priority, RequestStatus, RetrainingRequest
from ml_pipeline.store import RequestQueue


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `requests`."""
    commands.add_common(parser)
    actions = parser.add_subparsers(dest="action", required=True)
    submit = commands.add_action(actions, "submit", "ask for a run; the next one serves it")
    submit.add_argument("--reason", default="", help="why, for whoever reads the queue")
    submit.add_argument(
        "--priority",
        choices=[str(priority) for priority in Priority],
        default=str(Priority.NORMAL),
        help="which are served first (default: %(default)s)",
    )
    submit.add_argument(
        "--requested_by", type=_user, metavar="UUID", help="who asks (default: nobody is named)"
    )
    listing = commands.add_action(actions, "list", "requests in the order in which they are served")
    listing.add_argument(
        "--status", choices=[str(status) for status in RequestStatus], help="(default: all)"
    )
    cancel = commands.add_action(actions, "cancel", "take back a request that still waits")
    cancel.add_argument("request_id")


def _user(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not the id of a user") from None


def run(args: argparse.Namespace, *, now: datetime, new_id: str) -> int:
    """Submit, list or cancel; prints JSON."""
    from ml_pipeline.wiring import open_store

    settings = config.load_settings(commands.path_or_none(args.config))
    store = open_store(config.load_store_settings(args.local))
    try:
        result = _act(store, args, settings, now=now, new_id=new_id)
    finally:
        store.close()
    commands.print_json(result)
    return 0


def _act(
    store: RequestQueue, args: argparse.Namespace, settings: Settings, *, now: datetime, new_id: str
) -> dict[str, Any]:
    if args.action == "submit":
        asked = ask(
            store,
            settings,
            reason=args.reason,
            priority=Priority(args.priority),
            now=now,
            new_id=new_id,
            requested_by=args.requested_by,
        )
        return as_json(asked)
    if args.action == "cancel":
        return as_json(store.cancel(args.request_id, now=now))
    status = None if args.status is None else RequestStatus(args.status)
    found = store.list_requests(model_name=settings.model_name, status=status)
    return {"requests": [as_json(request) for request in found]}


def ask(  # noqa: PLR0913 - one request has that many parts
    store: RequestQueue,
    settings: Settings,
    *,
    reason: str,
    priority: Priority,
    now: datetime,
    new_id: str,
    requested_by: str | None = None,
) -> RetrainingRequest:
    """Submit a request within the limits. Raises StoreRefused when too many are open."""
    request = RetrainingRequest(
        request_id=new_id,
        model_name=settings.model_name,
        priority=priority,
        status=RequestStatus.PENDING,
        created_at=now,
        reason=reason,
        requested_by=requested_by,
    )
    limits = OpenLimits(
        per_user=settings.run.open_requests_per_user, total=settings.run.open_requests_total
    )
    return store.submit(request, limits=limits)


def as_json(request: RetrainingRequest) -> dict[str, Any]:
    """A request as plain JSON values."""
    times = ("created_at", "claimed_at", "lease_until", "processed_at")
    moments = {name: getattr(request, name) for name in times}
    return {
        "id": request.request_id,
        "status": str(request.status),
        "priority": str(request.priority),
        "reason": request.reason,
        "model_name": request.model_name,
        "requested_by": request.requested_by,
        "run_id": request.run_id,
        "attempts": request.attempts,
        **{name: None if at is None else at.isoformat() for name, at in moments.items()},
        "error_message": request.error_message,
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return commands.main(
        "requests",
        __doc__,
        add_arguments,
        lambda args: run(args, now=datetime.now(UTC), new_id=str(uuid4())),
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
