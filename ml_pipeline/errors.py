"""The exception tree.

PipelineError
├── ConfigError             settings, credentials or flags are wrong
├── DataError               a log or dataset cannot be used
├── InputError              one prediction's input cannot be used
├── TrainingError           the trainer failed, ran too long or took too much memory
├── StoreError
│   ├── StoreUnavailable    worth retrying
│   ├── StoreRefused        the store refused; repeating is useless
│   │   └── StoreDenied     whatever is asked, until its key, right or schema is put right
│   ├── StoreCorrupt        the store's answer breaks its promises
│   ├── NotFound
│   ├── RunInProgress
│   └── AlreadyFinished
├── ArtifactError
│   ├── ArtifactMissing
│   ├── ArtifactCorrupt
│   └── ArtifactIncompatible
├── PromotionRefused
└── Stopped                 a signal asked the command to end

Each carries a message for the log, a hint for the person and an exit code that is never 0.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base of every error the package raises on purpose.

    `message` is what is wrong and where; `hint` is what the person can do about it.
    """

    exit_code: int = 1
    default_hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(PipelineError):
    """Settings, credentials or flags that cannot be used."""


class DataError(PipelineError):
    """A log or dataset that cannot be used; nothing was trained."""


class InputError(PipelineError):
    """The input of one prediction that cannot be used."""


class TrainingError(PipelineError):
    """The trainer failed, ran past its time limit or asked for too much memory."""


class StoreError(PipelineError):
    """Base of everything a store may raise."""


class StoreUnavailable(StoreError):
    """The store did not answer; the same call may succeed later."""

    default_hint = "Try again later; nothing was half-written."


class StoreRefused(StoreError):
    """The store understood the call and refused it; repeating it is useless."""


class StoreDenied(StoreRefused):
    """The store refuses whatever is asked: its key, right, schema or folder has to be put right."""


class StoreCorrupt(StoreError):
    """The store answered with something that breaks its own promises."""


class NotFound(StoreError):
    """The named row or artifact does not exist."""


class RunInProgress(StoreError):
    """Another run of the same model holds the store."""


class AlreadyFinished(StoreError):
    """The row is finished and refuses writes."""


class ArtifactError(PipelineError):
    """Base of everything wrong with a model artifact."""


class ArtifactMissing(ArtifactError):
    """The bytes of a registered model are not where its row says."""


class ArtifactCorrupt(ArtifactError):
    """Digest or size differ from the row that names the artifact."""


class ArtifactIncompatible(ArtifactError):
    """The artifact holds types or versions this installation does not load."""


class PromotionRefused(PipelineError):
    """A promotion or rollback that the registry will not do."""


class Stopped(PipelineError):
    """A signal asked the command to end; what it had begun is closed as failed."""

    default_hint = "Start it again: the next run continues with what was left."
