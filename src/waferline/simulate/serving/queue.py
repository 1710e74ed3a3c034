"""Waiting requests of a replica: a linked list a class of priority, so that any place is reached at once."""

from __future__ import annotations

import numba

from waferline.simulate.serving.state import Fleet, Requests


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def push(f: Fleet, requests: Requests, k: int, r: int, in_front: bool) -> None:
    """Put a request at the end of the queue of its class, or at its head."""
    c = requests.priority[r]
    f.waiting[k] += 1
    if f.head[k, c] < 0:
        requests.behind[r] = -1
        f.head[k, c] = f.tail[k, c] = r
    elif in_front:
        requests.behind[r] = f.head[k, c]
        f.head[k, c] = r
    else:
        requests.behind[r] = -1
        requests.behind[f.tail[k, c]] = r
        f.tail[k, c] = r


@numba.njit(inline="always")
def foremost(f: Fleet, k: int) -> int:
    """The request whose turn it is, or -1."""
    for c in range(f.head.shape[1]):
        if f.head[k, c] >= 0:
            return int(f.head[k, c])
    return -1


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def pop(f: Fleet, requests: Requests, k: int) -> int:
    """Take the foremost out; -1 where nobody waits."""
    r = foremost(f, k)
    if r >= 0:
        f.head[k, requests.priority[r]] = requests.behind[r]
        f.waiting[k] -= 1
    return r


@numba.njit(inline="always")
def pour(f: Fleet, requests: Requests, source: int, target: int) -> None:
    """All that wait in one row go to the end of another, in their order."""
    for c in range(f.head.shape[1]):
        if f.head[source, c] >= 0:
            if f.head[target, c] < 0:
                f.head[target, c] = f.head[source, c]
            else:
                requests.behind[f.tail[target, c]] = f.head[source, c]
            f.tail[target, c] = f.tail[source, c]
            f.head[source, c] = -1
    f.waiting[target] += f.waiting[source]
    f.waiting[source] = 0
