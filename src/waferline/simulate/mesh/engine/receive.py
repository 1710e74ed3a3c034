"""The receive thread of a core: it stores each word, adds it, or adds it and sends the sum on."""

from __future__ import annotations

import numba
import numpy as np

from waferline.simulate.mesh.engine.events import ARRIVE, CONSUME, DONE, RETRY, schedule
from waferline.simulate.mesh.engine.state import (
    COLOURS,
    DEPTH,
    F_HEAD,
    F_OCC,
    F_STALLED,
    I_ARR,
    I_HEAD,
    I_OCC,
    LANES,
    PLACES,
    RAMP_TICKS,
    RECV_ADD,
    RECV_ADD_SEND,
    ROUNDING,
    RX_ADDR,
    RX_COUNT,
    RX_FREE,
    RX_I,
    RX_LATENCY,
    RX_LEFT,
    RX_OP,
    RX_OUT,
    RX_TICKS,
    RX_WAITING,
    WAIT_RX,
    State,
)


@numba.njit(cache=True, _nrt=False)
def rounded(value: float, rounding: int) -> float:
    """`value` as the core stores it: fp32, fp16 (nearest even, by adding and taking off a power of two), or whole."""
    if rounding == 0:
        return np.float64(np.float32(value))
    if rounding == 2 or value == 0.0:
        return value
    size = abs(value)
    if size >= 65520.0:
        return np.inf if value > 0 else -np.inf
    exponent = max(np.floor(np.log2(size)), -14.0)
    unit = 2.0 ** (exponent - 10.0)
    return np.rint(value / unit) * unit


@numba.njit(cache=True, _nrt=False)
def consume(s: State, q: int, t: int) -> None:
    """The receive thread of `q` takes a word: store, add, or add and send on."""
    s.queue[q, RX_WAITING] = 0
    if s.queue[q, RX_LEFT] == 0 or s.queue[q, I_ARR] == 0:
        return
    if t < s.queue[q, RX_FREE]:
        s.queue[q, RX_WAITING] = 1
        schedule(s, s.queue[q, RX_FREE], CONSUME, q)
        return
    out = s.queue[q, RX_OUT]
    if out >= 0 and s.queue[out, F_OCC] >= s.par[PLACES]:
        s.queue[out, WAIT_RX] = q + 1
        return
    core = q // s.par[COLOURS]
    _take_word(s, q, core, out)
    if out >= 0:
        s.queue[out, F_OCC] += 1
        schedule(s, t + s.queue[q, RX_LATENCY] + s.par[RAMP_TICKS], ARRIVE, out)
    depth = s.par[DEPTH]
    s.queue[q, I_HEAD] = (s.queue[q, I_HEAD] + 1) % depth
    s.queue[q, I_OCC] -= 1
    s.queue[q, I_ARR] -= 1
    s.queue[q, RX_I] += 1
    s.queue[q, RX_LEFT] -= 1
    s.queue[q, RX_FREE] = t + s.queue[q, RX_TICKS]
    if s.queue[q, F_STALLED]:
        schedule(s, t, RETRY, q)
    if s.queue[q, RX_LEFT] == 0:
        schedule(s, t + s.queue[q, RX_LATENCY], DONE, core)
    elif s.queue[q, I_ARR] > 0:
        s.queue[q, RX_WAITING] = 1
        schedule(s, s.queue[q, RX_FREE], CONSUME, q)


@numba.njit(cache=True, _nrt=False)
def _take_word(s: State, q: int, core: int, out: int) -> None:
    lanes, rounding, op = s.par[LANES], s.par[ROUNDING], s.queue[q, RX_OP]
    first = s.queue[q, RX_I] * lanes
    place = (s.queue[out, F_HEAD] + s.queue[out, F_OCC]) % s.par[PLACES] if out >= 0 else 0
    for lane in range(lanes):
        word = s.input_words[q, s.queue[q, I_HEAD], lane]
        at = s.queue[q, RX_ADDR] + first + lane
        inside = first + lane < s.queue[q, RX_COUNT]
        if inside:
            if op in (RECV_ADD, RECV_ADD_SEND):
                word = rounded(s.memory[core, at] + word, rounding)
            s.memory[core, at] = word
        if out >= 0:
            s.router_words[out, place, lane] = word
