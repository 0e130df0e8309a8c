"""What the checks of a store's content share: the store, the settings, the time, and wording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from ml_pipeline.commands.checks.findings import Finding, fault
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import PipelineError
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ModelVersion


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """What is examined, and when."""

    store: Store
    settings: Settings
    now: datetime

    @property
    def model_name(self) -> str:
        """The model name whose rows are examined."""
        return self.settings.model_name

    def champion(self) -> ModelVersion | None:
        """The model that serves."""
        return self.store.champion(model_name=self.model_name)


Check = Callable[[Examined], Iterator[Finding]]


def guarded(check: Check, examined: Examined) -> Iterator[Finding]:
    """The findings of a check; an error that it did not expect is a finding as well."""
    name = check.__name__
    try:
        yield from check(examined)
    except PipelineError as error:
        yield fault(name, error.message, error.hint or "Correct what the message names; try again.")
    except Exception as error:  # noqa: BLE001 - one broken part must not hide the other findings
        what = f"The check itself failed: {type(error).__name__}: {error}"
        yield fault(name, what, "This may be an error of the package: please report the message.")


def time_in_utc(moment: datetime) -> str:
    """A moment as people read it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def duration(length: timedelta) -> str:
    """A length of time in hours, from two days on in days."""
    hours = length.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"  # noqa: PLR2004
