"""Findings of `doctor`: one record per check, and how people read them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from ml_pipeline.commands.common import say

Severity = Literal["fault", "warning", "info"]
_ORDER: Final[Sequence[str]] = ("fault", "warning", "info")
_COLOURS: Final = {"fault": "red", "warning": "yellow", "info": "green"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one check found. `do` says what to do about it; a finding that is ok is an info."""

    name: str
    ok: bool
    severity: Severity
    what: str
    do: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        return asdict(self)


def fine(name: str, what: str, do: str = "") -> Finding:
    """Everything is as it should be, or there is only something to know."""
    return Finding(name=name, ok=True, severity="info", what=what, do=do)


def warning(name: str, what: str, do: str) -> Finding:
    """Runs still work, but a person should look into it."""
    return Finding(name=name, ok=False, severity="warning", what=what, do=do)


def fault(name: str, what: str, do: str) -> Finding:
    """A run fails by it, or others have access that they must not have."""
    return Finding(name=name, ok=False, severity="fault", what=what, do=do)


def some(items: Iterable[str], shown: int = 5) -> str:
    """The first few, and how many more there are."""
    every = sorted(items)
    more = f" and {len(every) - shown} more" if len(every) > shown else ""
    return ", ".join(every[:shown]) + more


def show(findings: Sequence[Finding]) -> None:
    """Print on stderr, the worst first: a table when a person is watching, lines otherwise."""
    ranked = sorted(findings, key=lambda finding: _ORDER.index(finding.severity))
    if sys.stderr.isatty():
        _show_table(ranked)
        return
    for finding in ranked:
        label = "ok" if finding.ok else finding.severity.upper()
        say(f"{label:<7}  {finding.name:<18}  {_one_line(finding)}")


def _one_line(finding: Finding) -> str:
    return " ".join(f"{finding.what} {finding.do}".split())


def _show_table(findings: Sequence[Finding]) -> None:
    from ml_pipeline.reports import terminal

    rows = [
        (
            terminal.coloured("ok" if it.ok else it.severity, _COLOURS[it.severity]),
            it.name,
            it.what,
            it.do,
        )
        for it in findings
    ]
    terminal.show(terminal.table("", ("", "check", "found", "to do"), rows, fold=True))
