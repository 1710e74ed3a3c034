"""How many threads the kernels run on."""

from __future__ import annotations

import os

import numba

from waferline.errors import InvalidInputError


def _allowed_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


# Asked once, before any thread pool: a pool that binds its threads leaves the first with a single core.
_ALLOWED_AT_START = _allowed_cores()


def available_threads() -> int:
    """Cores this process may use, as the operating system said when it started."""
    return _ALLOWED_AT_START


def use_threads(threads: int) -> None:
    """Set the pool to exactly `threads`: a larger pool halves single-thread speed by waking for nothing.

    Raises `InvalidInputError` when Numba was started with fewer (`NUMBA_NUM_THREADS`).
    """
    most = numba.config.NUMBA_NUM_THREADS
    if not 1 <= threads <= most:
        raise InvalidInputError(f"{threads} threads", where="threads", hint=f"1 to {most} on this machine")
    if threads > 1 or numba.get_num_threads() != 1:
        numba.set_num_threads(threads)
