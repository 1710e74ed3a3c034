"""Who solves the chunks of a sweep: this process, processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from waferline.errors import InvalidInputError, WaferlineError

CONNECT_S = 10.0  # for a scheduler to answer
_AGAIN = "finished parts are kept: the same command goes on with the rest"


@contextmanager
def workers_of(count: int | None, cluster: str | None) -> Iterator[Executor | None]:
    """An executor of `count` processes or of the Dask scheduler at `cluster`; None works here.

    Raises: InvalidInputError where no scheduler answers, WaferlineError where workers are lost for good on the way.
    """
    if count is not None and cluster is not None:
        raise InvalidInputError("--workers and --cluster exclude each other")
    if count is not None and count < 1:
        raise InvalidInputError(f"--workers must be at least 1, got {count}")
    if cluster is not None:
        with _dask(cluster) as executor:
            yield executor
    elif count is None or count == 1:
        yield None
    else:
        import multiprocessing

        pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
        try:
            yield pool
        except BrokenProcessPool:
            raise WaferlineError("a worker process died", hint=_AGAIN) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
        from distributed.comm.core import CommClosedError
        from distributed.scheduler import KilledWorker
    except ModuleNotFoundError:
        raise InvalidInputError("--cluster needs Dask", hint="pip install 'waferline[cluster]'") from None
    import logging

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters becomes one line here
    try:
        client: Any = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInputError(
            f"no Dask scheduler answers at {address!r}", hint=f"{type(error).__name__}: tcp://host:8786"
        ) from None
    try:
        yield client.get_executor(pure=False)
    except (CancelledError, CommClosedError, KilledWorker, OSError) as error:
        raise WaferlineError(
            f"the cluster at {address} lost its workers ({type(error).__name__})", hint=_AGAIN
        ) from None
    finally:
        client.close(timeout=CONNECT_S)
