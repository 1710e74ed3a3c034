"""The event loop: take the earliest event, do it, until none is left."""

from __future__ import annotations

import numba

from waferline.simulate.mesh.engine.core import done, inject, run
from waferline.simulate.mesh.engine.events import (
    ARRIVE,
    CONSUME,
    CORE_ARRIVE,
    DEPART,
    DONE,
    INJECT,
    KIND_BITS,
    RETRY,
    next_event,
)
from waferline.simulate.mesh.engine.receive import consume
from waferline.simulate.mesh.engine.router import attempt, depart
from waferline.simulate.mesh.engine.state import F_ARR, I_ARR, NOW, RX_WAITING, State


@numba.njit(cache=True, nogil=True, _nrt=False)
def run_events(s: State, limit: int) -> int:
    """Process up to `limit` events; the number processed (fewer than `limit` when the mesh has come to rest)."""
    mask = (1 << KIND_BITS) - 1
    for count in range(limit):
        event = next_event(s)
        if event < 0:
            return count
        kind, index, t = event & mask, event >> KIND_BITS, s.clock[NOW]
        if kind == ARRIVE:
            s.queue[index, F_ARR] += 1
            attempt(s, index, t)
        elif kind == RETRY:
            attempt(s, index, t)
        elif kind == DEPART:
            depart(s, index, t)
        elif kind == CORE_ARRIVE:
            s.queue[index, I_ARR] += 1
            if not s.queue[index, RX_WAITING]:
                consume(s, index, t)
        elif kind == CONSUME:
            consume(s, index, t)
        elif kind == INJECT:
            inject(s, index, t)
        elif kind == DONE:
            done(s, index, t)
        else:
            run(s, index, t)
    return limit
