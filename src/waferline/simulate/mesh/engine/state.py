"""The engine's state: a few tables in one NamedTuple, so that every Numba function takes one argument.

`q` = core * colours + colour numbers a router queue together with the core's input queue and threads of that colour.
Ticks are the engine's time unit: a whole number per clock cycle (1 when every figure is whole, otherwise 10).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NORTH, SOUTH, EAST, WEST, RAMP = 0, 1, 2, 3, 4
"""Router ports; bit `1 << port` of a route mask sends a word out there."""

# Columns of `State.par`: words a router queue takes from a link, elements per word, ticks per word and link, hop, ramp,
# rounding of sums (0 fp32, 1 fp16, 2 whole numbers), colours, and places in a router queue: its words and those its
# own core is still working on, which wait in the core and not in the router.
DEPTH, LANES, SLOT, HOP, RAMP_TICKS, ROUNDING, COLOURS, PLACES = range(8)
N_PAR = 8

# Columns of one instruction, and its operations.
OP, C_IN, C_OUT, ADDR, DELTA, COUNT, TICKS, LATENCY, ASYNC, AUX, AUX_DELTA, AUX2 = range(12)
N_COLUMNS = 12
SEND, RECV, RECV_ADD, RECV_ADD_SEND, RECV_SEND, COMPUTE, MAC, JOIN, SWAP, LOOP, BARRIER, MARK = range(12)

# Columns of `State.queue`. Router: route mask, feeding queue (-1 its core), queue pointers, flags, downstream by port.
ROUTE, UP, F_HEAD, F_OCC, F_ARR, F_BUSY, F_STALLED, WAIT_RX, DOWN = range(9)
# Core input queue, receive thread and send thread.
I_HEAD, I_OCC, I_ARR, I_FREE = range(12, 16)
RX_LEFT, RX_I, RX_ADDR, RX_OP, RX_OUT, RX_COUNT, RX_TICKS, RX_LATENCY, RX_FREE, RX_WAITING = range(16, 26)
TX_LEFT, TX_I, TX_ADDR, TX_COUNT, TX_TICKS, TX_STALLED = range(26, 32)
N_QUEUE = 32  # 32-bit columns: two cache lines

# Columns of `State.cores`: main thread, accounts, then the four links out of the core's router.
PC, PENDING, WAITING, PARITY, LOOPS, MARKS, FINISH, BUSY = range(8)
COMM, COMM_SINCE, COMM_AT_COMPUTE, OVERLAP, LINK_FREE = range(8, 13)
LINK_WORDS = 16
N_CORE = 20

NOW, SERIAL, LIVE, AT_BARRIER, PEAK_QUEUE = range(5)
"""Columns of `State.clock`."""

WHEEL = 1 << 13  # ticks a near event may lie ahead; later ones wait in the heap
N_PRIORITIES = 2

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
F64 = NDArray[np.float64]


class State(NamedTuple):
    """Every table the event loop reads or writes."""

    par: I64
    tile: I64  # (mt, kt, nt) of MAC
    instr: I32  # (rows, N_COLUMNS)
    start: I64  # (cores + 1,) program bounds
    memory: F64  # (cores, elements)
    queue: I32  # (cores * colours, N_QUEUE)
    router_words: F64  # (cores * colours, places, lanes)
    input_words: F64  # (cores * colours, depth, lanes): the core's input queue
    cores: I32  # (cores, N_CORE)
    mark_times: I64  # (marks, 2): first and last core to pass
    clock: I64
    bucket_head: I32  # (WHEEL, N_PRIORITIES)
    bucket_tail: I32
    node_next: I32
    node_event: I64
    node_free: I64  # stack height, then free node numbers
    far_key: I64  # (capacity, 4): tick, priority, serial, event
    far_size: I64


def new_state(
    *, par: I64, tile: I64, instr: I32, start: I64, memory: F64, route: I64, down: I32, up: I32, n_marks: int
) -> State:
    """A state at rest: empty queues, every core before its first instruction."""
    cores, queues, depth, lanes = memory.shape[0], route.shape[0], int(par[DEPTH]), int(par[LANES])
    queue = np.zeros((queues, N_QUEUE), np.int32)
    queue[:, ROUTE], queue[:, UP], queue[:, DOWN : DOWN + 4] = route, up, down
    core = np.zeros((cores, N_CORE), np.int32)
    core[:, PC], core[:, FINISH], core[:, COMM_AT_COMPUTE] = start[:-1], -1, -1
    marks = np.tile(np.array([np.iinfo(np.int64).max, -1]), (n_marks, 1))
    places = int(par[PLACES])
    capacity = (places + depth + 6) * queues + 4 * cores  # every word and thread has at most one event
    free = np.arange(-1, capacity, dtype=np.int64)
    free[0] = capacity
    return State(
        par=par,
        tile=tile,
        instr=instr,
        start=start,
        memory=memory,
        queue=queue,
        router_words=np.zeros((queues, places, lanes)),
        input_words=np.zeros((queues, depth, lanes)),
        cores=core,
        mark_times=marks,
        clock=np.zeros(5, np.int64),
        bucket_head=np.full((WHEEL, N_PRIORITIES), -1, np.int32),
        bucket_tail=np.full((WHEEL, N_PRIORITIES), -1, np.int32),
        node_next=np.zeros(capacity, np.int32),
        node_event=np.zeros(capacity, np.int64),
        node_free=free,
        far_key=np.zeros((8 * cores + 1024, 4), np.int64),
        far_size=np.zeros(1, np.int64),
    )
