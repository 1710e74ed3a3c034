"""Which replica a request goes to, and what happens to those of one that fails, starts or stops."""

from __future__ import annotations

import numba
import numpy as np

from waferline.arrays import AnyArray
from waferline.simulate.serving.prefix import forget, found
from waferline.simulate.serving.queue import pop, pour, push
from waferline.simulate.serving.state import (
    BOTH,
    DECODE,
    DOWN,
    DRAINING,
    PREFILL,
    STARTING,
    UP,
    UP_S,
    Cache,
    Fleet,
    Memory,
    Plan,
    Requests,
    Rules,
)  # fmt: skip

LEAST_LOADED, PREFIX, SESSION = 1, 2, 3
# When loads differ by more, prefixes do not count (sgl-router `policies/mod.rs`: balance_abs_threshold, balance_rel_threshold;
# cache_threshold is the share of a prompt that must be found).
UNBALANCED, UNBALANCED_RATIO, WORTH = 32, 1.1, 0.5


@numba.njit(inline="always")
def takes(f: Fleet, k: int, decode: bool) -> bool:
    """Whether new requests may go to replica `k`."""
    return bool(f.status[k] == UP and (f.role[k] == BOTH or (f.role[k] == DECODE) == decode))


@numba.njit(inline="always")
def load(f: Fleet, k: int) -> int:
    n = f.active.size
    return int(f.active[k] + f.waiting[k] + f.waiting[n + 1 + k] + f.waiting[2 * n + 1 + k])


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def route(f: Fleet, cache: Cache, requests: Requests, plan: Plan, turn: AnyArray, r: int, decode: bool) -> int:
    """The replica for request `r`, or the last row, where nobody is up. `turn`: whose turn it is, by pool."""
    replicas = f.active.size
    if plan.router == SESSION and not decode and requests.home[r] >= 0 and takes(f, requests.home[r], decode):
        return int(requests.home[r])
    if plan.router == 0 or plan.router == SESSION:
        for step in range(replicas):
            k = (turn[int(decode)] + step) % replicas
            if takes(f, k, decode):
                turn[int(decode)] = (k + 1) % replicas
                return int(k)
        return replicas
    least, most, best, match = replicas, 0, replicas, -1
    for k in range(replicas):
        if not takes(f, k, decode):
            continue
        most = max(most, load(f, k))
        if least == replicas or load(f, k) < load(f, least):
            least = k
    if plan.router != PREFIX or least == replicas or decode:
        return least
    lowest = load(f, least)
    if most - lowest > UNBALANCED and most > UNBALANCED_RATIO * lowest:
        return least
    for k in range(replicas):
        if takes(f, k, decode):
            tokens = found(cache, requests, k, r)
            if tokens > match or (tokens == match and load(f, k) < load(f, best)):
                best, match = k, tokens
    return best if match > WORTH * requests.prompt[r] else least


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def restart(requests: Requests, r: int) -> None:
    """A request whose replica is gone is sent again, as if nothing of it had been seen."""
    for column in (requests.computed, requests.made, requests.shared, requests.pinned, requests.taken):
        column[r] = 0
    requests.under_way[r] = requests.moved[r] = 0
    requests.held[r] = 0.0
    requests.first[r] = requests.last[r] = -1.0
    requests.home[r] = -1


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def fail(f: Fleet, cache: Cache, requests: Requests, rules: Rules, memory: Memory, k: int, now: float) -> int:
    """Replica `k` goes down: its requests wait in the last row, in the order in which they came. Returns how many were cut off."""
    replicas, lost = f.active.size, f.active[k]
    if f.status[k] != DOWN:
        f.sums[k, UP_S] += now - f.since[k]
    f.status[k] = DOWN
    f.epoch[k] += 1
    f.batch_size[k, :] = 0
    f.reserve[k] = rules.reserve
    for i in range(lost):
        restart(requests, f.running[k, i])
        push(f, requests, replicas, f.running[k, i], False)
    f.active[k] = 0
    pour(f, requests, replicas + 1 + k, k)
    pour(f, requests, 2 * replicas + 1 + k, k)
    f.front_turn[k] += 1
    r = pop(f, requests, k)
    while r >= 0:
        restart(requests, r)
        push(f, requests, replicas, r, False)
        r = pop(f, requests, k)
    forget(f, cache, memory, k)
    return int(lost)


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def wake(f: Fleet, k: int, now: float) -> None:
    """Replica `k` begins to start, and is paid for."""
    f.status[k] = STARTING
    f.since[k] = now
    f.stage_free[k] = f.last_end[k] = f.link_free[k] = f.front_free[k] = now


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def scale(f: Fleet, plan: Plan, broken: AnyArray, calm_since: float, now: float) -> tuple[int, float, float]:
    """One look of the autoscaler. Returns (the replica that it starts, or -1; since when fewer would do; when it acts again, if
    nothing happens before).

    As many are wanted as `target` requests each make; one is started at a look, one is stopped after `patience_s` of calm.
    """
    replicas, there, work = f.active.size, 0, f.waiting[f.active.size]
    for k in range(replicas):
        work += load(f, k)
        there += f.status[k] == UP or f.status[k] == STARTING
    wanted = min(max(int(np.ceil(work / plan.target)), plan.least), replicas)
    if wanted >= there:
        calm_since = now
    if wanted > there:
        for k in range(replicas):
            if f.status[k] == DRAINING:
                f.status[k] = UP
                return -1, calm_since, now
        for k in range(replicas):
            if f.status[k] == DOWN and broken[k] == 0:
                wake(f, k, now)
                return k, calm_since, now
    if wanted < there and now - calm_since >= plan.patience_s:
        for k in range(replicas - 1, -1, -1):
            if f.status[k] == STARTING:  # one that is up works; its start is called off first
                f.status[k] = DOWN
                f.epoch[k] += 1
                f.sums[k, UP_S] += now - f.since[k]
                return -1, now, now
        for k in range(replicas - 1, -1, -1):
            if f.status[k] == UP:
                f.status[k] = DRAINING
                return -1, now, now
    return -1, calm_since, calm_since + plan.patience_s if wanted < there else np.inf


@numba.njit(inline="always")
def stop_idle(f: Fleet, k: int, now: float) -> None:
    """One that drains and has nothing left goes down."""
    if f.status[k] == DRAINING and load(f, k) == 0:
        f.status[k] = DOWN
        f.sums[k, UP_S] += now - f.since[k]


@numba.njit(inline="always")
def is_prefill(f: Fleet, k: int) -> bool:
    return bool(f.role[k] == PREFILL)
