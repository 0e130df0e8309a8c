"""Independent pieces of work on several processors or on a Dask cluster, with the same results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from ml_pipeline.config.defaults import install_extra
from ml_pipeline.errors import ConfigError

Piece = TypeVar("Piece")
Result = TypeVar("Result")

CLUSTER_TIMEOUT_S = 10
WORTH_A_PROCESS_S = 3.0
# How long a worker whose parent was killed may stay.
IDLE_S = 30
_CLIENT: ContextVar[Any] = ContextVar("dask_client", default=None)
_IN_A_PIECE: ContextVar[bool] = ContextVar("in_a_piece", default=False)


@contextmanager
def on_cluster(address: str | None) -> Iterator[None]:
    """Within, `spread` works on the Dask cluster whose scheduler is there; None is this machine.

    The cluster runs what it is sent and sees the rows, so it has to be one that is trusted.
    Raises ConfigError when the extra is missing, nobody answers or no worker has come.
    """
    if address is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            "--cluster needs the package distributed.",
            hint=f"Install it with `{install_extra('distributed')}`.",
        ) from error
    try:
        client = Client(  # type: ignore[no-untyped-call]
            address, timeout=CLUSTER_TIMEOUT_S, set_as_default=False
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"There is no Dask scheduler at {address}: {error}.",
            hint="Start one with `dask scheduler`, or leave --cluster out.",
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CLUSTER_TIMEOUT_S)
        except TimeoutError as error:
            raise ConfigError(f"The cluster at {address} has no worker.") from error
        token = _CLIENT.set(client)
        try:
            yield
        finally:
            _CLIENT.reset(token)


def spread(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[Result]:
    """Yield `work(piece)` in the order of the pieces; an error in one is raised here.

    The first is worked on in this process, and the others as well when it was quick: to start
    processes takes seconds. A piece that spreads work of its own does that in its process. Each
    has one thread and starts no workers of its own: with several, the last bits of a sum depend
    on how many there are, and so on where it runs.
    """
    import joblib

    rest, jobs, client = list(pieces), -1, _CLIENT.get()
    if _IN_A_PIECE.get():
        jobs = 1
    elif client is None:
        while rest:
            began = time.monotonic()
            yield _alone(work, rest.pop(0))
            if time.monotonic() - began > WORTH_A_PROCESS_S:
                break
        jobs = min(len(rest), joblib.cpu_count())
    if jobs == 1 or not rest:
        yield from (_alone(work, piece) for piece in rest)
        return
    where = {"idle_worker_timeout": IDLE_S} if client is None else {"client": client}
    backend = "loky" if client is None else "dask"
    with joblib.parallel_config(backend=backend, **where):
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    yield from parallel(joblib.delayed(_alone)(work, piece) for piece in rest)


def _alone(work: Callable[[Piece], Result], piece: Piece) -> Result:
    import joblib
    from threadpoolctl import threadpool_limits

    token = _IN_A_PIECE.set(True)
    try:
        with threadpool_limits(1), joblib.parallel_config(backend="sequential"):
            return work(piece)
    finally:
        _IN_A_PIECE.reset(token)
