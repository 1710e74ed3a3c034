"""A fleet, event by event: requests come, are sent to a replica, scheduled, pass through the model, and leave.

Events are ordered by time, then kind, then number, so that the same input gives the same run.
"""

from __future__ import annotations

import heapq

import numba
import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.simulate.serving.glide import glide
from waferline.simulate.serving.prefix import leave
from waferline.simulate.serving.queue import foremost, pop, push
from waferline.simulate.serving.replica_step import (
    COME,
    CUT,
    END,
    ENDED,
    ENTER,
    FAIL,
    GAP_BINS,
    KEPT,
    LOOK,
    MOVE,
    READY,
    RECOVER,
    SAMPLE_COLUMNS,
    SAMPLES,
    STAGE,
    Heap,
    Log,
    advance,
    start,
)
from waferline.simulate.serving.route import fail, restart, route, scale, stop_idle, wake
from waferline.simulate.serving.state import (
    DOWN,
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
from waferline.simulate.serving.step_time import sequence_bytes
from waferline.workloads.step_tables import StepTables


@numba.njit(cache=True, nogil=True)
def serve(
    requests: Requests, rules: Rules, memory: Memory, steps: StepTables, f: Fleet, cache: Cache, plan: Plan
) -> tuple[FloatArray, AnyArray, int, int]:
    """Run until every request has ended.

    Returns (samples, gaps, requests that a failure cut off, stuck), or what there is once `plan.stop` says so. stuck: the
    request that no empty memory holds, or that no replica is left for; else -1.
    """
    replicas, total = f.active.size, requests.arrival.size
    for r in range(total):  # one that is too long would be put back, and read again, for ever
        longest = requests.prompt[r] + (rules.positions + requests.output[r] - 2 if requests.output[r] > 1 else 0)
        if sequence_bytes(memory, longest) > memory.capacity:
            return np.zeros((0, len(SAMPLE_COLUMNS))), np.zeros((2, GAP_BINS), np.int64), 0, r
    log = Log(np.zeros((SAMPLES, len(SAMPLE_COLUMNS))), np.zeros((2, GAP_BINS), np.int64), np.array([0, 0, 1, 0, 0, 0]))
    order, position = _first_requests(requests), 0
    heap = [(0.0, LOOK, 0, 0)]
    if plan.target == 0.0:
        heap.pop()
    for i in range(plan.fail_at.size):
        heapq.heappush(heap, (plan.fail_at[i], FAIL, plan.fail_replica[i], i))
    turn, broken, touched = np.zeros(2, np.int64), np.zeros(replicas, np.int64), np.zeros(replicas, np.bool_)
    now, calm_since = 0.0, 0.0
    while log.marks[ENDED] < total and plan.stop[0] == 0:
        if position < order.size and (len(heap) == 0 or requests.arrival[order[position]] <= heap[0][0]):
            now = requests.arrival[order[position]]
            _come(f, cache, requests, rules, plan, heap, turn, order[position], now, touched)
            position += 1
        elif len(heap) == 0:
            return log.samples[: log.marks[KEPT]], log.gaps, log.marks[CUT], max(foremost(f, replicas), 0)
        else:
            now, kind, a, b = heapq.heappop(heap)
            if kind == LOOK:
                started, calm_since, due = scale(f, plan, broken, calm_since, now)
                if started >= 0:
                    heapq.heappush(heap, (now + plan.start_s, READY, started, f.epoch[started]))
                if f.waiting[replicas] > 0:  # one that was to stop goes on
                    _send_on(f, cache, requests, rules, plan, turn, touched)
                for k in range(replicas):
                    stop_idle(f, k, now)
                if len(heap) == 0 and position == order.size and not touched.any():  # no later look sees anything else
                    return log.samples[: log.marks[KEPT]], log.gaps, log.marks[CUT], max(foremost(f, replicas), 0)
                enough = due == np.inf  # as many there as are wanted
                if position < order.size:
                    due = min(due, requests.arrival[order[position]])
                if len(heap) > 0:
                    due = min(due, heap[0][0])
                idle = (
                    0.0 if touched.any() else np.floor((due - now) / plan.interval_s)
                )  # looks that would see the same
                late = max(now + max(idle, 1.0) * plan.interval_s, np.nextafter(now, np.inf))
                calm_since = late - plan.interval_s if enough else calm_since
                heapq.heappush(heap, (late, LOOK, 0, 0))
            else:
                _happen(f, cache, requests, rules, memory, plan, heap, log, turn, broken, touched, now, kind, a, b)
                if kind == END and touched[a]:
                    soon = heap[0][0] if len(heap) > 0 else np.inf
                    if position < order.size:
                        soon = min(soon, requests.arrival[order[position]])
                    late = glide(f, requests, rules, memory, steps, plan, log, a, now, soon)
                    if late > now:
                        touched[a] = False
                        heapq.heappush(heap, (late, STAGE, a, 0))
        soon = heap[0][0] if len(heap) > 0 else np.inf
        if position < order.size:
            soon = min(soon, requests.arrival[order[position]])
        if soon > now or log.marks[ENDED] == total:
            for k in range(replicas):
                if touched[k]:
                    touched[k] = False
                    stuck = start(f, cache, requests, rules, memory, steps, heap, log, k, now)
                    if stuck >= 0:
                        return log.samples[: log.marks[KEPT]], log.gaps, log.marks[CUT], stuck
    for k in range(replicas):
        if f.status[k] != DOWN:
            f.sums[k, UP_S] += now - f.since[k]
    return log.samples[: log.marks[KEPT]], log.gaps, log.marks[CUT], -1


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _first_requests(requests: Requests) -> AnyArray:
    """Requests that wait for no other, in the order of their arrival."""
    later = np.zeros(requests.arrival.size, np.bool_)
    for r in range(requests.arrival.size):
        if requests.then[r] >= 0:
            later[requests.then[r]] = True
    first = np.flatnonzero(~later)
    return first[np.argsort(requests.arrival[first], kind="mergesort")]


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _come(
    f: Fleet,
    cache: Cache,
    requests: Requests,
    rules: Rules,
    plan: Plan,
    heap: Heap,
    turn: AnyArray,
    r: int,
    now: float,
    touched: AnyArray,
) -> None:
    """A request is sent to a replica; the process in front of it works on it first."""
    k = route(f, cache, requests, plan, turn, r, False)
    if k < f.active.size and plan.front_s > 0.0:
        requests.home[r] = k
        row = 2 * f.active.size + 1 + k
        many = f.waiting[row]
        f.front_done[k] = f.front_done[k] + (now - f.front_at[k]) / many if many > 0 else 0.0
        requests.due[r] = f.front_done[k] + plan.front_s
        push(f, requests, row, r, False)
        _work_on(f, requests, heap, k, now)
        return
    _enter(f, requests, rules.ahead, k, r, touched)


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _soonest(f: Fleet, requests: Requests, row: int) -> float:
    """The work after which the first of a row of requests is let go."""
    due = np.inf
    for c in range(f.head.shape[1]):
        if f.head[row, c] >= 0:
            due = min(due, requests.due[f.head[row, c]])
    return due


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _work_on(f: Fleet, requests: Requests, heap: Heap, k: int, now: float) -> None:
    """The process in front of replica `k` takes turns over all requests that it has: an event says whose work is done next."""
    row = 2 * f.active.size + 1 + k
    f.front_at[k] = now
    f.front_turn[k] += 1
    if f.waiting[row] > 0:
        left = max(_soonest(f, requests, row) - f.front_done[k], 0.0)
        heapq.heappush(heap, (now + left * f.waiting[row], ENTER, k, f.front_turn[k]))


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _let_go(f: Fleet, requests: Requests, rules: Rules, heap: Heap, k: int, now: float, touched: AnyArray) -> None:
    """Those that the process in front has worked on enter the engine."""
    row = 2 * f.active.size + 1 + k
    f.front_done[k] = _soonest(f, requests, row)
    for c in range(f.head.shape[1]):
        while f.head[row, c] >= 0 and requests.due[f.head[row, c]] <= f.front_done[k]:
            r = f.head[row, c]
            f.head[row, c] = requests.behind[r]
            f.waiting[row] -= 1
            _enter(f, requests, rules.ahead, k, r, touched)
    _work_on(f, requests, heap, k, now)


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _enter(f: Fleet, requests: Requests, ahead: bool, k: int, r: int, touched: AnyArray) -> None:
    if k == f.active.size:
        push(f, requests, k, r, False)
        return
    push(f, requests, f.active.size + 1 + k if ahead and f.batch_size[k].max() > 0 else k, r, False)
    requests.home[r] = k
    touched[k] = True


@numba.njit(inline="always")
def _happen(
    f: Fleet, cache: Cache, requests: Requests, rules: Rules, memory: Memory, plan: Plan, heap: Heap, log: Log, turn: AnyArray,
    broken: AnyArray, touched: AnyArray, now: float, kind: int, a: int, b: int,
) -> None:  # fmt: skip
    """Everything that is not an arrival nor a look of the autoscaler."""
    if kind == END:
        k, slot = a, b % rules.stages
        if b // rules.stages == f.epoch[k]:
            advance(f, cache, requests, rules, memory, plan, heap, log, k, slot, now)
            touched[k] = True
    elif kind == STAGE:
        touched[a] = True
    elif kind == COME:
        _come(f, cache, requests, rules, plan, heap, turn, a, now, touched)
    elif kind == ENTER:
        if f.front_turn[a] == b:
            _let_go(f, requests, rules, heap, a, now, touched)
    elif kind == MOVE:
        k = requests.home[a]
        if f.epoch[k] == b:
            leave(f, cache, requests, memory, k, a, False)
            touched[k] = True
            requests.moved[a] = 1
            _enter(f, requests, rules.ahead, route(f, cache, requests, plan, turn, a, True), a, touched)
        else:
            restart(requests, a)
            _come(f, cache, requests, rules, plan, heap, turn, a, now, touched)
    elif kind == FAIL:
        broken[a] = 1
        log.marks[CUT] += fail(f, cache, requests, rules, memory, a, now)
        if plan.fail_for[b] < np.inf:
            heapq.heappush(heap, (now + plan.fail_for[b], RECOVER, a, 0))
        _send_on(f, cache, requests, rules, plan, turn, touched)
    elif kind == RECOVER:
        broken[a] = 0
        if f.status[a] == DOWN:
            wake(f, a, now)
            heapq.heappush(heap, (now + plan.start_s, READY, a, f.epoch[a]))
    elif kind == READY and b == f.epoch[a] and f.status[a] == STARTING:
        f.status[a] = UP
        _send_on(f, cache, requests, rules, plan, turn, touched)


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _send_on(
    f: Fleet, cache: Cache, requests: Requests, rules: Rules, plan: Plan, turn: AnyArray, touched: AnyArray
) -> None:
    """Requests that no replica took find one, if one is up now."""
    replicas = f.active.size
    for _ in range(f.waiting[replicas]):
        r = pop(f, requests, replicas)
        _enter(f, requests, rules.ahead, route(f, cache, requests, plan, turn, r, requests.moved[r] == 1), r, touched)
