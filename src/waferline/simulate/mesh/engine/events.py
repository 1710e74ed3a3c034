"""The event queue: a wheel of ticks (first in, first out within a tick and priority) and a heap for the far future.

Events come out ordered by (time, priority, serial): the same program gives the same order, hence the same bytes.

The engine's functions are compiled without Numba's reference counting (`_nrt=False`): they allocate nothing, the caller
owns every table, and counting references to eighteen tables per call made them eight times slower.
"""

from __future__ import annotations

import numba

from waferline.simulate.mesh.engine.state import LIVE, N_PRIORITIES, NOW, SERIAL, WHEEL, State

ARRIVE, DEPART, RETRY, CORE_ARRIVE, CONSUME, INJECT, DONE, RUN = range(8)
KIND_BITS = 3
WORDS_FIRST, CORES_SECOND = 0, 1
"""Priorities within a tick: words move before cores act on them."""


@numba.njit(cache=True, _nrt=False)
def schedule(s: State, tick: int, kind: int, index: int) -> None:
    """Put event `kind` of queue or core `index` at `tick` (not before now)."""
    priority = CORES_SECOND if kind >= DONE else WORDS_FIRST
    event = (index << KIND_BITS) | kind
    s.clock[SERIAL] += 1
    s.clock[LIVE] += 1
    if tick - s.clock[NOW] >= WHEEL:
        _push_far(s, tick, priority, event)
    else:
        _append(s, tick, priority, event)


@numba.njit(cache=True, _nrt=False)
def next_event(s: State) -> int:
    """Take the earliest event and set the clock to its time; -1 when none is left."""
    if s.clock[LIVE] == 0:
        return -1
    while True:
        bucket = s.clock[NOW] & (WHEEL - 1)
        for priority in range(N_PRIORITIES):
            node = s.bucket_head[bucket, priority]
            if node >= 0:
                s.bucket_head[bucket, priority] = s.node_next[node]
                if s.node_next[node] < 0:
                    s.bucket_tail[bucket, priority] = -1
                s.node_free[0] += 1
                s.node_free[s.node_free[0]] = node
                s.clock[LIVE] -= 1
                return s.node_event[node]
        s.clock[NOW] += 1
        if s.far_size[0] == s.clock[LIVE]:  # nothing in the wheel: straight to where the next one enters it
            s.clock[NOW] = max(s.clock[NOW], s.far_key[0, 0] - WHEEL + 1)
        while s.far_size[0] > 0 and s.far_key[0, 0] - s.clock[NOW] < WHEEL:
            tick, priority, event = s.far_key[0, 0], s.far_key[0, 1], s.far_key[0, 3]
            _pop_far(s)
            _append(s, tick, priority, event)


@numba.njit(cache=True, _nrt=False)
def _append(s: State, tick: int, priority: int, event: int) -> None:
    top = s.node_free[0]
    if top == 0:
        raise RuntimeError("event pool exhausted")
    node = s.node_free[top]
    s.node_free[0] = top - 1
    s.node_event[node] = event
    s.node_next[node] = -1
    bucket = tick & (WHEEL - 1)
    tail = s.bucket_tail[bucket, priority]
    if tail < 0:
        s.bucket_head[bucket, priority] = node
    else:
        s.node_next[tail] = node
    s.bucket_tail[bucket, priority] = node


@numba.njit(cache=True, _nrt=False)
def _before(s: State, a: int, b: int) -> bool:
    for column in range(3):
        if s.far_key[a, column] != s.far_key[b, column]:
            return s.far_key[a, column] < s.far_key[b, column]
    return False


@numba.njit(cache=True, _nrt=False)
def _swap(s: State, a: int, b: int) -> None:
    for column in range(4):
        s.far_key[a, column], s.far_key[b, column] = s.far_key[b, column], s.far_key[a, column]


@numba.njit(cache=True, _nrt=False)
def _push_far(s: State, tick: int, priority: int, event: int) -> None:
    at = s.far_size[0]
    if at == s.far_key.shape[0]:
        raise RuntimeError("event heap exhausted")
    s.far_key[at, 0], s.far_key[at, 1], s.far_key[at, 2], s.far_key[at, 3] = tick, priority, s.clock[SERIAL], event
    s.far_size[0] = at + 1
    while at > 0 and _before(s, at, (at - 1) // 2):
        _swap(s, at, (at - 1) // 2)
        at = (at - 1) // 2


@numba.njit(cache=True, _nrt=False)
def _pop_far(s: State) -> None:
    last = s.far_size[0] - 1
    _swap(s, 0, last)
    s.far_size[0] = last
    at = 0
    while True:
        child = 2 * at + 1
        if child >= last:
            return
        if child + 1 < last and _before(s, child + 1, child):
            child += 1
        if not _before(s, child, at):
            return
        _swap(s, child, at)
        at = child
