"""The evaluation log that an application writes: `get_logger`.

Started as a program, this module is `outcome` and `reconcile`.
"""

from __future__ import annotations

import sys

from ml_pipeline.evaluation_log.opening import MLLogger, get_logger

__all__ = ["MLLogger", "get_logger", "main"]

PROGRAMS = ("outcome", "reconcile")


def main(argv: list[str] | None = None) -> int:
    """`python -m ml_pipeline.ml_logging outcome …` or `reconcile …`."""
    from importlib import import_module

    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] not in PROGRAMS:
        sys.stderr.write(f"usage: ml_pipeline.ml_logging {{{','.join(PROGRAMS)}}} [flags]\n")
        return 2
    return int(import_module(f"ml_pipeline.commands.{arguments[0]}").main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main())
