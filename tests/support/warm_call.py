"""The other end of `tests.support.warm.call`."""

from __future__ import annotations

import base64
import pickle
import sys


def main(wanted: str) -> None:
    """Call the function with its arguments."""
    target, arguments = pickle.loads(base64.b64decode(wanted))  # noqa: S301 - our own pickle
    target(*arguments)


if __name__ == "__main__":
    main(sys.argv[1])
