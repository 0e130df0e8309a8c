"""Logging: the story a command tells, and the evaluation log that an application writes.

The story goes to stderr in the seeds' line shape, or as JSON lines. `get_logger` opens the
evaluation log. Started as a program, this module is `outcome` and `reconcile`.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from ml_pipeline import config
from ml_pipeline.config import LoggingSettings, Settings, StoreSettings
from ml_pipeline.evaluation_logger import EvaluationLogger
from ml_pipeline.quick_settings import evaluation_csv
from ml_pipeline.serving import Serving
from ml_pipeline.store import Store

LOG_FILE_BYTES = 10 * 1024 * 1024
LOG_FILES_KEPT = 5
PROGRAMS = ("outcome", "reconcile")
LINE = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"


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
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class LineFormatter(logging.Formatter):
    """The seeds' line shape, in UTC."""

    def __init__(self) -> None:
        super().__init__(LINE)
        self.converter = time.gmtime


def configure(settings: LoggingSettings) -> None:
    """Send every logger's lines to stderr, and to `LOG_FILE` if one is named.

    The file is rotated at 10 MB and five old ones are kept. Repeating the call replaces the
    earlier handlers.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
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
        handler.setFormatter(JsonFormatter() if settings.format == "json" else LineFormatter())
    logging.basicConfig(level=settings.level, handlers=handlers, force=True)
    # Their DEBUG lines hold request headers, and with them the key.
    for name in ("httpx", "httpcore", "hpack", "h2"):
        logging.getLogger(name).setLevel(logging.WARNING)


class RunLog:
    """A file that gets every line of a run beside stderr; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handler: logging.FileHandler | None = None
        self._levels: list[tuple[logging.Logger | logging.Handler, int]] = []

    def __enter__(self) -> Self:
        self._handler = logging.FileHandler(self.path, encoding="utf-8")
        self._handler.setFormatter(LineFormatter())
        self._let_through(logging.getLogger())
        logging.getLogger().addHandler(self._handler)
        return self

    def _let_through(self, root: logging.Logger) -> None:
        """The file is told everything from INFO on, stderr no more than before."""
        self._levels = [(root, root.level), *((h, h.level) for h in root.handlers)]
        for handler in root.handlers:
            handler.setLevel(max(handler.level, root.level))
        root.setLevel(min(root.level, logging.INFO))

    def __exit__(self, *_: object) -> None:
        for target, level in self._levels:
            target.setLevel(level)
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler.close()

    def flush(self) -> None:
        """Bring every line to the file."""
        if self._handler is not None:
            self._handler.flush()


# --------------------------------------------------------------------------- evaluation log


class MLLogger(EvaluationLogger):
    """The evaluation log with its comparison; `open_store` opens the whole store, if there is one.

    Use it as a context manager, or close it.
    """

    open_store: Callable[[], Store] | None = None

    def reconcile_logs(self, *, repair: bool = False) -> dict[str, Any]:
        """Compare the CSV with the store's table; `repair` adds what is missing on either side."""
        from ml_pipeline.reconciling import reconcile

        if self.open_store is None:
            return reconcile(self, None, repair=repair)
        store = self.open_store()
        try:
            return reconcile(self, store, repair=repair)
        finally:
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def get_logger(
    supabase_url: str | None = None,
    supabase_key: str | None = None,
    *,
    local_dir: str | None = None,
    csv_path: str | Path | None = None,
    model_name: str | None = None,
) -> MLLogger:
    """Open the evaluation log of a store: the one named here, else the environment's.

    Without either the CSV stands alone, and a store that is chosen later takes in what it holds.
    Raises ConfigError for settings that cannot be used.
    """
    settings = config.load_settings(flags={"model_name": model_name})
    if csv_path is not None:
        settings = settings.changed({"log.csv_file": str(csv_path)})
    chosen: StoreSettings | None
    if supabase_url and supabase_key and not local_dir:
        chosen = StoreSettings(supabase_url=supabase_url, supabase_key=SecretStr(supabase_key))
    else:
        chosen = config.chosen_store(local_dir)
    return open_logger(settings, chosen)


def open_logger(settings: Settings, chosen: StoreSettings | None) -> MLLogger:
    """The evaluation log beside a store, or alone."""
    from ml_pipeline import wiring

    folder = None if chosen is None else chosen.local_dir
    open_table: Callable[[], Serving] | None = None
    if chosen is not None:
        open_table = lambda: wiring.open_serving(chosen)  # noqa: E731 - or the type is lost
    logger = MLLogger(
        evaluation_csv(settings.log.csv_file, folder),
        model_name=settings.model_name,
        open_table=open_table,
    )
    if chosen is not None:
        logger.open_store = lambda: wiring.open_store(chosen)
    return logger


def main(argv: list[str] | None = None) -> int:
    """`python -m ml_pipeline.ml_logging outcome …` or `reconcile …`."""
    from importlib import import_module

    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] not in PROGRAMS:
        sys.stderr.write(f"usage: ml_pipeline.ml_logging {{{','.join(PROGRAMS)}}} [flags]\n")
        return 2
    return int(import_module(f"ml_pipeline.{arguments[0]}").main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main())
