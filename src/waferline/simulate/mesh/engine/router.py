"""A router: words wait in one queue per colour, leave by static routes, take one link slot each, feel back-pressure."""

from __future__ import annotations

import numba

from waferline.simulate.mesh.engine.events import ARRIVE, CONSUME, CORE_ARRIVE, DEPART, INJECT, RETRY, schedule
from waferline.simulate.mesh.engine.receive import consume
from waferline.simulate.mesh.engine.state import (
    COLOURS,
    DEPTH,
    DOWN,
    F_ARR,
    F_BUSY,
    F_HEAD,
    F_OCC,
    F_STALLED,
    HOP,
    I_ARR,
    I_FREE,
    I_HEAD,
    I_OCC,
    LANES,
    LINK_FREE,
    LINK_WORDS,
    PEAK_QUEUE,
    PLACES,
    RAMP,
    RAMP_TICKS,
    ROUTE,
    RX_FREE,
    RX_LEFT,
    SLOT,
    TX_STALLED,
    UP,
    WAIT_RX,
    State,
)


@numba.njit(cache=True, _nrt=False)
def attempt(s: State, q: int, t: int) -> None:
    """Move the head word of queue `q` if every output has room; reserve its link slots first come, first served."""
    if s.queue[q, F_BUSY] or s.queue[q, F_ARR] == 0:
        return
    mask = s.queue[q, ROUTE]
    core = q // s.par[COLOURS]
    depth = s.par[DEPTH]
    leave = t
    for port in range(4):
        if mask & (1 << port):
            if s.queue[s.queue[q, DOWN + port], F_OCC] >= depth:
                s.queue[q, F_STALLED] = 1
                return
            leave = max(leave, s.cores[core, LINK_FREE + port])
    if mask & (1 << RAMP):
        if s.queue[q, I_OCC] >= depth:
            s.queue[q, F_STALLED] = 1
            return
        leave = max(leave, s.queue[q, I_FREE])
    s.queue[q, F_STALLED] = 0
    for port in range(4):
        if mask & (1 << port):
            s.cores[core, LINK_FREE + port] = leave + s.par[SLOT]
            s.cores[core, LINK_WORDS + port] += 1
            s.queue[s.queue[q, DOWN + port], F_OCC] += 1
            s.clock[PEAK_QUEUE] = max(s.clock[PEAK_QUEUE], s.queue[s.queue[q, DOWN + port], F_OCC])
    if mask & (1 << RAMP):
        s.queue[q, I_FREE] = leave + s.par[SLOT]
        s.queue[q, I_OCC] += 1
    if leave == t:
        depart(s, q, t)
    else:
        s.queue[q, F_BUSY] = 1
        schedule(s, leave, DEPART, q)


@numba.njit(cache=True, _nrt=False)
def depart(s: State, q: int, t: int) -> None:
    """The head word of `q` leaves on its reserved slots; a freed place wakes whoever feeds this queue."""
    mask, places, lanes = s.queue[q, ROUTE], s.par[PLACES], s.par[LANES]
    head = s.queue[q, F_HEAD]
    for port in range(4):
        if mask & (1 << port):
            to = s.queue[q, DOWN + port]
            place = (s.queue[to, F_HEAD] + s.queue[to, F_OCC] - 1) % places
            for lane in range(lanes):
                s.router_words[to, place, lane] = s.router_words[q, head, lane]
            schedule(s, t + s.par[HOP], ARRIVE, to)
    if mask & (1 << RAMP):
        at_core = t + s.par[RAMP_TICKS]
        place = (s.queue[q, I_HEAD] + s.queue[q, I_OCC] - 1) % s.par[DEPTH]
        for lane in range(lanes):
            s.input_words[q, place, lane] = s.router_words[q, head, lane]
        if s.queue[q, I_OCC] == 1 and s.queue[q, RX_LEFT] > 0 and s.queue[q, RX_FREE] <= at_core:
            # Alone on the ramp with its receive open: nothing can come between, so take it now, at its later time.
            s.queue[q, I_ARR] += 1
            consume(s, q, at_core)
        else:
            schedule(s, at_core, CORE_ARRIVE, q)
    s.queue[q, F_HEAD] = (head + 1) % places
    s.queue[q, F_OCC] -= 1
    s.queue[q, F_ARR] -= 1
    s.queue[q, F_BUSY] = 0
    _wake_feeder(s, q, t)
    if s.queue[q, F_ARR] > 0:
        schedule(s, t, RETRY, q)


@numba.njit(cache=True, _nrt=False)
def _wake_feeder(s: State, q: int, t: int) -> None:
    feeder = s.queue[q, UP]
    if feeder >= 0:
        if s.queue[feeder, F_STALLED]:
            schedule(s, t, RETRY, feeder)
    elif s.queue[q, WAIT_RX] > 0:
        schedule(s, t, CONSUME, s.queue[q, WAIT_RX] - 1)
        s.queue[q, WAIT_RX] = 0
    elif s.queue[q, TX_STALLED]:
        s.queue[q, TX_STALLED] = 0
        schedule(s, t, INJECT, q)
