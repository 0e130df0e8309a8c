"""Findings of `doctor`: one record per check, and how people read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from ml_pipeline.reports.terminal import Part

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


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def lines(findings: Sequence[Finding], *, is_quiet: bool) -> list[str]:
    """A line each; of a quiet command those that are not ok."""
    shown = [it for it in ranked(findings) if not (it.ok and is_quiet)]
    return [
        f"{'ok' if it.ok else it.severity.upper():<7}  {it.name:<18}  {_one_line(it)}"
        for it in shown
    ]


def _one_line(finding: Finding) -> str:
    return " ".join(f"{finding.what} {finding.do}".split())


def view(findings: Sequence[Finding]) -> Iterator[Part]:
    """A table, and how many there are of each severity."""
    from ml_pipeline.reports import terminal

    shown = ranked(findings)
    rows = [
        (
            terminal.coloured("ok" if it.ok else it.severity, _COLOURS[it.severity]),
            it.name,
            it.what if not it.do else f"{it.what} {it.do}",
        )
        for it in shown
    ]
    yield terminal.table("", ("", "check", "found, and what to do"), rows, fold=True)
    counts = {name: sum(not it.ok and it.severity == name for it in shown) for name in _ORDER[:2]}
    yield (
        ", ".join(
            f"{count or 'no'} {name}{'' if count == 1 else 's'}" for name, count in counts.items()
        ).capitalize()
        + "."
    )
