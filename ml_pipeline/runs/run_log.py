"""Log messages: on stderr as lines or JSON, and in the log file of a run."""

from __future__ import annotations

import json
import logging.handlers
import shutil
import sys
import time
from pathlib import Path
from uuid import UUID, uuid4

import ml_pipeline
from ml_pipeline.config.environment import LoggingSettings
from ml_pipeline.config.log_lines import LineFormatter, ShortFormatter
from ml_pipeline.errors import ConfigError
from ml_pipeline.printable import printable
from ml_pipeline.private_files import make_file, make_folder

LOG_FILE_BYTES = 10 * 1024 * 1024
LOG_FILES_KEPT = 5
KEPT_FOLDERS = 10
_OURS = str(Path(ml_pipeline.__file__).parent)
log = logging.getLogger("auto_reinforcement")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self) -> None:
        super().__init__()
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Render time (UTC), logger, level, message and the traceback if there is one."""
        entry = {
            "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
            + f".{int(record.msecs):03d}Z",
            "logger": record.name,
            "level": record.levelname,
            "message": printable(record.getMessage(), lines=True),
        }
        if record.exc_info:
            entry["traceback"] = printable(self.formatException(record.exc_info), lines=True)
        return json.dumps(entry, ensure_ascii=False)


def configure(settings: LoggingSettings, *, is_quiet: bool = False, is_short: bool = False) -> None:
    """Send every logger's lines to stderr, and to `LOG_FILE` if one is named.

    A quiet command shows warnings and errors alone on stderr; one that `is_short` shows the time of
    day and the message, unless `LOG_FORMAT` names a form. The file is rotated at 10 MB and five
    old ones are kept. Repeating the call replaces the earlier handlers.
    """
    shown = logging.StreamHandler(sys.stderr)
    shown.setLevel(logging.WARNING if is_quiet else logging.NOTSET)
    handlers: list[logging.Handler] = [shown]
    if settings.file is not None:
        settings.file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.RotatingFileHandler(
                settings.file,
                maxBytes=LOG_FILE_BYTES,
                backupCount=LOG_FILES_KEPT,
                encoding="utf-8",
            )
        )
    for handler in handlers:
        handler.addFilter(_is_for_people)
        handler.setFormatter(JsonFormatter() if settings.format == "json" else LineFormatter())
    if is_short and not settings.has_format:
        shown.setFormatter(ShortFormatter())
    logging.basicConfig(level=settings.level, handlers=handlers, force=True)
    # They tell of every request, some with its address.
    for name in ("httpx", "httpcore", "hpack", "h2", "urllib3", "requests"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _is_for_people(record: logging.LogRecord) -> bool:
    """Libraries tell what they send below INFO: headers with keys, addresses that are secrets."""
    is_library = any(f"/{name}/" in record.pathname for name in ("site-packages", "dist-packages"))
    return record.levelno >= logging.INFO or record.pathname.startswith(_OURS) or not is_library


class RunLog:
    """A file that gets every line of a run beside stderr, from `open` to `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handler: logging.FileHandler | None = None
        self._levels: list[tuple[logging.Logger | logging.Handler, int]] = []

    @property
    def is_open(self) -> bool:
        """Whether the file gets what is logged."""
        return self._handler is not None

    def open(self) -> None:
        """Begin, in a folder of its own. Raises ConfigError when it cannot be written."""
        try:
            _make_room(self.path.parent)
            make_file(self.path)
            self._handler = logging.FileHandler(self.path, encoding="utf-8")
        except OSError as error:
            raise _not_writable(error, self.path) from error
        self._handler.setFormatter(LineFormatter())
        self._let_through(logging.getLogger())
        logging.getLogger().addHandler(self._handler)

    def _let_through(self, root: logging.Logger) -> None:
        """The file gets everything from INFO on, stderr no more than before."""
        self._levels = [(root, root.level), *((h, h.level) for h in root.handlers)]
        for handler in root.handlers:
            handler.setLevel(max(handler.level, root.level))
        root.setLevel(min(root.level, logging.INFO))

    def flush(self) -> None:
        """Bring every line to the file."""
        if self._handler is not None:
            self._handler.flush()

    def close(self) -> None:
        """End. A full disk refuses the last lines; what the run came to stands all the same."""
        for target, level in self._levels:
            target.setLevel(level)
        handler, self._handler = self._handler, None
        if handler is None:
            return
        logging.getLogger().removeHandler(handler)
        try:
            handler.close()
        except OSError as error:
            log.warning("The run's log is incomplete: %s", error)


def folder_for_rows(work_dir: Path) -> Path:
    """A new folder for what a command reads of the log, among those of runs.

    There `erase` finds the rows, and later runs make room. Raises ConfigError when it cannot be
    made.
    """
    folder = work_dir / str(uuid4())
    try:
        _make_room(folder)
    except OSError as error:
        raise _not_writable(error, folder) from error
    return folder


def _not_writable(error: OSError, path: Path) -> ConfigError:
    return ConfigError(
        f"{error.filename or path}: {error.strerror}.",
        hint="Set run.work_dir to a folder that this user may write to.",
    )


def _make_room(folder: Path) -> None:
    """Make the folder of a run; of earlier runs' folders the latest few are kept."""
    make_folder(folder)
    earlier = [path for path in folder.parent.iterdir() if is_run_folder(path) and path != folder]
    earlier.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in earlier[KEPT_FOLDERS:]:
        shutil.rmtree(path, ignore_errors=True)


def is_run_folder(path: Path) -> bool:
    """Whether a run, or a command that read the log, keeps its files there."""
    try:
        UUID(path.name)
    except ValueError:
        return False
    return path.is_dir()
