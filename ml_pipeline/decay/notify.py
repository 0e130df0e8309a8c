"""Notify people when an alert changes its state: Apprise, and GitHub where a job runs there.

The alert remembers what each channel has sent, so every change is sent once; what could not be sent
is sent by the next check.
"""

from __future__ import annotations

import hashlib
import json
import logging
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol

from ml_pipeline.config.defaults import install_extra
from ml_pipeline.config.environment import NotifySettings
from ml_pipeline.decay import messages
from ml_pipeline.decay.actions import log_event, update_alert
from ml_pipeline.errors import ConfigError, PipelineError, StoreRefused
from ml_pipeline.printable import plain_markdown, printable
from ml_pipeline.store.alerts import ActionState, DecayAlert, WatchLedger, newest_alerts

log = logging.getLogger("model_retrainer")

EXTRA: Final = install_extra("notify")
_TIMEOUT_S: Final = 20
_PAGE: Final = 100
_APPRISE: Final = "apprise"


class NotSentError(PipelineError):
    """A channel did not take a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What people read: a title of one line, and paragraphs of plain text."""

    title: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", printable(self.title))
        object.__setattr__(self, "text", printable(self.text, lines=True))

    def markdown(self) -> str:
        """The text for Markdown, where nothing in it is markup."""
        return "\n\n".join(plain_markdown(part) for part in self.text.split("\n\n"))


class Channel(Protocol):
    """One way to people; what a `quotes` one sends is read by those that it is addressed to."""

    name: str
    quotes: bool

    def send(self, message: Message, alert: DecayAlert) -> Mapping[str, Any]:
        """Send, and return what the alert should remember. Raises NotSentError."""
        ...


def state_of(alert: DecayAlert) -> str:
    """What is news: status, severity, a failed action, whether a person is needed."""
    parts = [str(alert.status), str(alert.severity)]
    if alert.action_state is ActionState.FAILED:
        parts.append(f"{alert.action} failed {alert.attempts}")
    if alert.needs_person:
        parts.append("needs a person")
    return ", ".join(parts)


def message_of(alert: DecayAlert, *, quotes: bool = True) -> Message:
    """What happened, what happens next, since when, by how much and on how many rows.

    `quotes` as in `messages.next_step`.
    """
    change = (
        f"{alert.metric.replace('_', ' ')} {alert.baseline:.3f} → {alert.recent:.3f} "
        f"({alert.recent - alert.baseline:+.3f}), on {alert.recent_rows:,} new rows "
        f"against {alert.baseline_rows:,} before"
    )
    paragraphs = [
        f"What happened: {alert.message}",
        f"What now: {messages.next_step(alert, quotes=quotes)}",
        f"Since: {alert.window_start:%Y-%m-%d}, noticed {alert.detected_at:%Y-%m-%d %H:%M} UTC",
        f"Figures: {change}",
        f"Alert: {alert.alert_id}",
    ]
    return Message(title=messages.headline(alert), text="\n\n".join(paragraphs))


def deliver(
    store: WatchLedger, channels: Sequence[Channel], *, model_name: str, now: datetime
) -> int:
    """Send each channel what it has not sent yet; return how many messages went out."""
    sent = 0
    for alert in newest_alerts(store, model_name=model_name) if channels else []:
        current = alert
        for channel in channels:
            if _is_news(channel, current):
                current, done = _send(store, channel, current, now)
                sent += done
    return sent


def _is_news(channel: Channel, alert: DecayAlert) -> bool:
    """Whether the alert's state is news; the end is news to those who know of the beginning."""
    states = alert.details.get("told", {})
    # Alerts of former versions remember all addresses under one name.
    former = states.get(_APPRISE) if channel.name.startswith(f"{_APPRISE} ") else None
    known = states.get(channel.name, former)
    return known != state_of(alert) and (alert.status.is_open or known is not None)


def _send(
    store: WatchLedger, channel: Channel, alert: DecayAlert, now: datetime
) -> tuple[DecayAlert, bool]:
    try:
        remembered = channel.send(message_of(alert, quotes=channel.quotes), alert)
    except NotSentError as error:
        log_event(store, alert, f"{channel.name} could not send {state_of(alert)}", str(error), now)
        return alert, False
    known = {**alert.details.get("told", {}), channel.name: state_of(alert)}
    try:
        return update_alert(
            store, alert, now, details={**alert.details, **remembered, "told": known}
        ), True
    except StoreRefused as refused:
        log.warning("%s", refused)
        return alert, True


# ----------------------------------------------------------------------------------- channels


def channels_for(settings: NotifySettings) -> list[Channel]:
    """The configured channels. Raises ConfigError when one cannot work."""
    found: list[Channel] = []
    for place, url in enumerate(settings.urls, start=1):
        found.append(AppriseChannel(url.get_secret_value(), place=place))
    if settings.github_summary is not None:
        found.append(JobSummary(Path(settings.github_summary)))
    if settings.github_token is not None and settings.github_repository is not None:
        found.append(
            GitHubIssue(
                api=settings.github_api,
                repository=settings.github_repository,
                token=settings.github_token.get_secret_value(),
            )
        )
    return found


class AppriseChannel:
    """One address of mail, Slack, Teams, a webhook and more: an Apprise URL, which holds secrets.

    Its name holds a short digest of the URL, so that an alert remembers each address apart from the
    others, wherever it stands in the list. Apprise's own digest leaves recipients and channels out:
    two people who are written to through one account would be one to it. 32 bits tell addresses
    apart, and too little of their passwords to find one by trying.
    """

    quotes = True

    def __init__(self, url: str, *, place: int) -> None:
        try:
            import apprise
        except ImportError:
            raise ConfigError(
                "ML_PIPELINE_NOTIFY_URLS needs Apprise, which is not installed.",
                hint=f"Install it with `{EXTRA}`.",
            ) from None
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        self._apprise = apprise.Apprise()
        if not self._apprise.add(url):
            raise ConfigError(
                f"URL {place} of ML_PIPELINE_NOTIFY_URLS is of no kind that Apprise knows.",
                hint="Use one such as mailto://…, slack://…, json://… or msteams://….",
            )
        self.name = f"{_APPRISE} {hashlib.sha256(url.encode()).hexdigest()[:8]}"
        self._where = f"notification URL {place} ({self._apprise[0].service_name})"

    def send(self, message: Message, alert: DecayAlert) -> Mapping[str, Any]:  # noqa: ARG002
        """Send to this address alone."""
        if not self._apprise.notify(title=message.title, body=message.text):
            raise NotSentError(f"The {self._where} took no message; the next check tries again.")
        return {}


class JobSummary:
    """The summary of a GitHub Actions job, which everyone reads in a public repository."""

    name = "github_summary"
    quotes = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, message: Message, alert: DecayAlert) -> Mapping[str, Any]:  # noqa: ARG002
        """Append to the summary's file."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"## {plain_markdown(message.title)}\n\n{message.markdown()}\n\n")
        except OSError as error:
            raise NotSentError(f"The job summary cannot be written: {error.strerror}.") from None
        return {}


class GitHubIssue:
    """One issue for an alert: opened once, commented on when the state changes, closed with it."""

    name = "github_issue"
    quotes = False

    def __init__(self, *, api: str, repository: str, token: str) -> None:
        self._base = f"{api.rstrip('/')}/repos/{repository}/issues"
        self._token = token

    def send(self, message: Message, alert: DecayAlert) -> Mapping[str, Any]:
        """Open the issue, or comment on the one that is there."""
        marker = f"<!-- ml-pipeline alert {alert.alert_id} -->"
        number = alert.details.get("github_issue") or self._find(marker)
        if number is None:
            issue = self._ask(
                "POST", "", {"title": message.title, "body": f"{message.markdown()}\n\n{marker}"}
            )
            return {"github_issue": issue["number"]}
        # Closing may be repeated, a comment may not: it comes last.
        if not alert.status.is_open:
            self._ask("PATCH", f"/{number}", {"state": "closed"})
        body = f"{plain_markdown(message.title)}\n\n{message.markdown()}"
        self._ask("POST", f"/{number}/comments", {"body": body})
        return {"github_issue": number}

    def _find(self, marker: str) -> int | None:
        """The issue of an alert whose number was lost between opening it and writing it down."""
        issues = self._ask("GET", f"?state=open&per_page={_PAGE}", None)
        for issue in issues:
            if marker in (issue.get("body") or ""):
                return int(issue["number"])
        return None

    def _ask(self, method: str, path: str, body: object) -> Any:  # noqa: ANN401 - JSON
        request = urllib.request.Request(  # noqa: S310 - the address is the API's, checked
            f"{self._base}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Accept": "application/vnd.github+json",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            hint = ""
            if error.code in {HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED}:
                hint = "The workflow needs `permissions: issues: write`."
            raise NotSentError(f"GitHub refused the issue ({error.code}).", hint=hint) from None
        except (OSError, ValueError) as error:
            raise NotSentError(f"GitHub did not answer: {error}.") from None
