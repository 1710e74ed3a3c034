"""A core: a short program of vector instructions; sends and receives run beside the main thread and are joined."""

from __future__ import annotations

import numba
import numpy as np

from waferline.simulate.mesh.engine.events import CONSUME, DONE, INJECT, RUN, schedule
from waferline.simulate.mesh.engine.receive import rounded
from waferline.simulate.mesh.engine.router import attempt
from waferline.simulate.mesh.engine.state import (
    ADDR,
    ASYNC,
    AT_BARRIER,
    AUX,
    AUX2,
    AUX_DELTA,
    BARRIER,
    BUSY,
    C_IN,
    C_OUT,
    COLOURS,
    COMM,
    COMM_AT_COMPUTE,
    COMM_SINCE,
    COMPUTE,
    COUNT,
    DELTA,
    DEPTH,
    F_ARR,
    F_HEAD,
    F_OCC,
    FINISH,
    I_ARR,
    JOIN,
    LANES,
    LATENCY,
    LOOP,
    LOOPS,
    MAC,
    MARK,
    MARKS,
    OP,
    OVERLAP,
    PARITY,
    PC,
    PENDING,
    PLACES,
    RAMP_TICKS,
    RECV_ADD_SEND,
    RECV_SEND,
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
    SEND,
    SWAP,
    TICKS,
    TX_ADDR,
    TX_COUNT,
    TX_I,
    TX_LEFT,
    TX_STALLED,
    TX_TICKS,
    WAITING,
    State,
)


@numba.njit(cache=True, _nrt=False)
def inject(s: State, q: int, t: int) -> None:
    """The send thread of `q` puts its next word into its router, or stalls while the router queue is full."""
    if s.queue[q, F_OCC] >= s.par[DEPTH]:
        s.queue[q, TX_STALLED] = 1
        return
    core = q // s.par[COLOURS]
    lanes = s.par[LANES]
    place = (s.queue[q, F_HEAD] + s.queue[q, F_OCC]) % s.par[PLACES]
    first = s.queue[q, TX_I] * lanes
    for lane in range(lanes):
        inside = first + lane < s.queue[q, TX_COUNT]
        s.router_words[q, place, lane] = s.memory[core, s.queue[q, TX_ADDR] + first + lane] if inside else 0.0
    s.queue[q, F_OCC] += 1
    s.queue[q, F_ARR] += 1
    s.queue[q, TX_I] += 1
    s.queue[q, TX_LEFT] -= 1
    if s.queue[q, TX_LEFT] > 0:
        schedule(s, t + s.queue[q, TX_TICKS], INJECT, q)
    else:
        schedule(s, t, DONE, core)
    attempt(s, q, t)


@numba.njit(cache=True, _nrt=False)
def done(s: State, core: int, t: int) -> None:
    """One of the core's threads ended; go on if it was the last the main thread waits for."""
    s.cores[core, PENDING] -= 1
    if s.cores[core, PENDING] == 0:
        s.cores[core, COMM] += t - s.cores[core, COMM_SINCE]
        if s.cores[core, WAITING]:
            s.cores[core, WAITING] = 0
            schedule(s, t, RUN, core)


@numba.njit(cache=True, _nrt=False)
def run(s: State, core: int, t: int) -> None:
    """Execute instructions of `core` until one of them takes time or waits."""
    colours = s.par[COLOURS]
    if s.cores[core, COMM_AT_COMPUTE] >= 0:
        s.cores[core, OVERLAP] += _comm_so_far(s, core, t) - s.cores[core, COMM_AT_COMPUTE]
        s.cores[core, COMM_AT_COMPUTE] = -1
    while s.cores[core, PC] < s.start[core + 1]:
        row = s.instr[s.cores[core, PC]]
        op = row[OP]
        s.cores[core, PC] += 1
        if op <= RECV_SEND:
            _start_thread(s, core, row, colours, t)
            if not row[ASYNC] and s.cores[core, PENDING] > 0:
                s.cores[core, WAITING] = 1
                return
        elif op in (COMPUTE, MAC):
            if op == MAC:
                _multiply(s, core, row)
            s.cores[core, BUSY] += row[TICKS]
            s.cores[core, COMM_AT_COMPUTE] = _comm_so_far(s, core, t)
            schedule(s, t + row[TICKS], RUN, core)
            return
        elif op == JOIN:
            if s.cores[core, PENDING] > 0:
                s.cores[core, WAITING] = 1
                return
        elif op == BARRIER:
            _barrier(s, t)
            return
        else:
            _control(s, core, row, t)
    s.cores[core, FINISH] = t


@numba.njit(cache=True, _nrt=False)
def _comm_so_far(s: State, core: int, t: int) -> int:
    return s.cores[core, COMM] + (t - s.cores[core, COMM_SINCE] if s.cores[core, PENDING] > 0 else 0)


@numba.njit(cache=True, _nrt=False)
def _control(s: State, core: int, row: np.ndarray, t: int) -> None:
    op = row[OP]
    if op == SWAP:
        s.cores[core, PARITY] ^= 1
    elif op == LOOP:
        s.cores[core, LOOPS] += 1
        if s.cores[core, LOOPS] < row[COUNT]:
            s.cores[core, PC] = s.start[core] + row[ADDR]
        else:
            s.cores[core, LOOPS] = 0
    elif op == MARK:
        mark = s.cores[core, MARKS]
        s.cores[core, MARKS] += 1
        s.mark_times[mark, 0] = min(s.mark_times[mark, 0], t)
        s.mark_times[mark, 1] = max(s.mark_times[mark, 1], t)


@numba.njit(cache=True, _nrt=False)
def _barrier(s: State, t: int) -> None:
    s.clock[AT_BARRIER] += 1
    cores = s.cores.shape[0]
    if s.clock[AT_BARRIER] == cores:
        s.clock[AT_BARRIER] = 0
        for core in range(cores):
            schedule(s, t, RUN, core)


@numba.njit(cache=True, _nrt=False)
def _start_thread(s: State, core: int, row: np.ndarray, colours: int, t: int) -> None:
    count, lanes = row[COUNT], s.par[LANES]
    if count == 0:
        return
    words = (count + lanes - 1) // lanes
    addr = row[ADDR] + s.cores[core, PARITY] * row[DELTA]
    if s.cores[core, PENDING] == 0:
        s.cores[core, COMM_SINCE] = t
    s.cores[core, PENDING] += 1
    if row[OP] == SEND:
        q = core * colours + row[C_OUT]
        s.queue[q, TX_LEFT], s.queue[q, TX_I], s.queue[q, TX_ADDR], s.queue[q, TX_COUNT], s.queue[q, TX_TICKS] = (
            words,
            0,
            addr,
            count,
            row[TICKS],
        )
        schedule(s, t + row[TICKS] + s.par[RAMP_TICKS], INJECT, q)
        return
    q = core * colours + row[C_IN]
    s.queue[q, RX_LEFT], s.queue[q, RX_I], s.queue[q, RX_ADDR], s.queue[q, RX_COUNT], s.queue[q, RX_OP] = (
        words,
        0,
        addr,
        count,
        row[OP],
    )
    s.queue[q, RX_TICKS], s.queue[q, RX_LATENCY], s.queue[q, RX_FREE] = row[TICKS], row[LATENCY], t
    forwards = row[OP] in (RECV_ADD_SEND, RECV_SEND)
    s.queue[q, RX_OUT] = core * colours + row[C_OUT] if forwards else -1
    if s.queue[q, I_ARR] > 0:
        s.queue[q, RX_WAITING] = 1
        schedule(s, t, CONSUME, q)


@numba.njit(cache=True, _nrt=False)
def _multiply(s: State, core: int, row: np.ndarray) -> None:
    """C += A B on the core's tiles (row-major), rounded after each multiply-accumulate as the core stores it."""
    mt, kt, nt = s.tile[0], s.tile[1], s.tile[2]
    a = row[ADDR] + s.cores[core, PARITY] * row[DELTA]
    b = row[AUX] + s.cores[core, PARITY] * row[AUX_DELTA]
    c = row[AUX2]
    rounding = s.par[ROUNDING]
    for k in range(kt):
        for n in range(nt):
            for m in range(mt):
                product = s.memory[core, a + m * kt + k] * s.memory[core, b + k * nt + n]
                at = c + m * nt + n
                s.memory[core, at] = rounded(s.memory[core, at] + product, rounding)
