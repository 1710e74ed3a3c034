"""A step of a replica: it is filled and begins; when it ends, tokens are seen and requests leave."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numba
import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.simulate.serving.prefix import leave, publish
from waferline.simulate.serving.queue import foremost, pour
from waferline.simulate.serving.route import is_prefill, stop_idle
from waferline.simulate.serving.schedule import schedule
from waferline.simulate.serving.state import (
    BUSY_S,
    DECODES,
    DOWN,
    DRAINING,
    FULL_S,
    FULL_TOKENS,
    MEMORY_S,
    MOVED_BYTES,
    PROMPT_TOKENS,
    RUNNING_S,
    STARTING,
    STEPS,
    UP,
    Cache,
    Fleet,
    Memory,
    Plan,
    Requests,
    Rules,
)  # fmt: skip
from waferline.simulate.serving.step_time import sequence_bytes, step_seconds
from waferline.workloads.step_tables import StepTables

SAMPLES = 4096  # of the state over time; when they are full every second one is dropped
GAP_BINS, LEAST_GAP_S, MOST_GAP_S = 2048, 1e-5, 1e3  # of the histogram of gaps between tokens, each 0.9 % wide
SAMPLE_COLUMNS = ("start_s", "step_s", "running", "waiting", "memory_share", "prompt_tokens", "decodes", "replicas")
FAIL, RECOVER, READY, COME, ENTER, MOVE, END, STAGE, LOOK = range(9)  # kinds of events
Heap = list[tuple[float, int, int, int]]  # time, kind, replica or request, step or epoch


class Log(NamedTuple):
    """What a run keeps beside the requests' fates."""

    samples: FloatArray  # rows of SAMPLE_COLUMNS
    gaps: AnyArray  # histograms of the time between two tokens of a request: (while others wait or not, bin)
    marks: AnyArray  # SEEN steps, KEPT samples, EVERY how many, ENDED requests, CUT requests, BEGUN requests


SEEN, KEPT, EVERY, ENDED, CUT, BEGUN = range(6)
_SCALE = GAP_BINS / np.log(MOST_GAP_S / LEAST_GAP_S)


@numba.njit(inline="always")
def gap_bin(gap_s: float) -> int:
    """Of the histogram of gaps."""
    return min(int(np.log(max(gap_s, LEAST_GAP_S) / LEAST_GAP_S) * _SCALE), GAP_BINS - 1)


@numba.njit(inline="always")
def start(
    f: Fleet, cache: Cache, requests: Requests, rules: Rules, memory: Memory, steps: StepTables, heap: Heap, log: Log, k: int,
    now: float,
) -> int:  # fmt: skip
    """Begin a step of replica `k` if it can. Returns a request that no empty memory holds, or -1."""
    slot = -1
    for s in range(rules.stages):
        if f.batch_size[k, s] == 0:
            slot = s
    if slot < 0 or now < f.stage_free[k] or f.status[k] == DOWN or f.status[k] == STARTING:
        return -1
    late = f.active.size + 1 + k
    schedule(f, cache, requests, rules, memory, k, now)
    decodes, context, tokens, pairs = _work(f, requests, k, slot)
    if decodes + tokens == 0 and f.waiting[late] + f.waiting[k] > 0:  # nothing was filled ahead, or all made room
        pour(f, requests, late, k)
        schedule(f, cache, requests, rules, memory, k, now)
        decodes, context, tokens, pairs = _work(f, requests, k, slot)
    pour(f, requests, late, k)
    if decodes + tokens == 0:
        empty = f.active[k] == 0 and f.free[k] >= memory.capacity * (1.0 - 1e-9)
        return foremost(f, k) if empty else -1  # nothing runs, and yet it does not fit
    rows = decodes * rules.positions + tokens
    seconds = step_seconds(steps, decodes, context, tokens, pairs, rules.positions, rules.pass_tokens)
    stage = seconds / rules.stages
    end = max(now + seconds + (rules.stages - 1) * rules.hop_s * rows, f.last_end[k] + stage)
    if rules.stages > 1:
        f.stage_free[k] = now + stage
        heapq.heappush(heap, (f.stage_free[k], STAGE, k, 0))
    f.last_end[k] = end
    heapq.heappush(heap, (end, END, k, f.epoch[k] * rules.stages + slot))
    used = 1.0 - (f.free[k] - f.cached[k]) / memory.capacity
    note(f, memory, log, k, now, seconds, stage, used, tokens, decodes)
    if decodes > 0 and rules.reserve_steps > 0.0:
        fall = (rules.reserve - rules.reserve_least) / rules.reserve_steps
        f.reserve[k] = max(f.reserve[k] - fall, rules.reserve_least)
    return -1


@numba.njit(inline="always")
def _work(f: Fleet, requests: Requests, k: int, slot: int) -> tuple[int, float, int, float]:
    """What the step carries: decodes, their context in all, prompt tokens, query-key pairs of these; its batch is noted."""
    decodes, context, tokens, pairs, size = 0, 0.0, 0, 0.0, 0
    for i in range(f.active[k]):
        r = f.running[k, i]
        some = requests.taken[r]
        if some == 0 or requests.under_way[r] == 1:
            continue
        requests.under_way[r] = 1
        f.batch[k, slot, size] = r
        size += 1
        if some == 1 and requests.made[r] > 0:
            decodes += 1
            context += requests.computed[r] + 1.0
        else:
            tokens += some
            pairs += some * (requests.computed[r] + 0.5 * (some + 1.0))
    f.batch_size[k, slot] = size
    return decodes, context, tokens, pairs


@numba.njit(inline="always")
def note(
    f: Fleet, memory: Memory, log: Log, k: int, now: float, seconds: float, stage: float, used: float, tokens: int, decodes: int
) -> None:  # fmt: skip
    """A step of replica `k` begins: it counts for `stage` seconds; every so often the state of the fleet is kept.

    used: the share of the replica's memory that requests hold.
    """
    sums = f.sums[k]
    sums[STEPS] += 1
    sums[BUSY_S] += stage
    sums[RUNNING_S] += stage * f.active[k]
    sums[MEMORY_S] += stage * used
    sums[PROMPT_TOKENS] += tokens
    sums[DECODES] += decodes
    log.marks[SEEN] += 1
    if (log.marks[SEEN] - 1) % log.marks[EVERY] != 0:
        return
    if log.marks[KEPT] == SAMPLES:
        log.samples[: SAMPLES // 2] = log.samples[::2].copy()
        log.marks[KEPT], log.marks[EVERY] = SAMPLES // 2, log.marks[EVERY] * 2
    row, up = log.samples[log.marks[KEPT]], 0
    row[:] = 0.0
    row[0], row[1], row[5], row[6] = now, seconds, tokens, decodes
    for k in range(f.active.size):
        row[2] += f.active[k]
        row[3] += f.waiting[k] + f.waiting[f.active.size + 1 + k] + f.waiting[2 * f.active.size + 1 + k]
        if f.status[k] == UP or f.status[k] == DRAINING:
            up += 1
            row[4] += 1.0 - (f.free[k] - f.cached[k]) / memory.capacity
    row[3] += f.waiting[f.active.size]
    row[4] /= max(up, 1)
    row[7] = up
    log.marks[KEPT] += 1


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _kept(gain: float, turn: float) -> int:
    """Tokens of one decode: whole numbers that average to `gain`, spread evenly over turns by the golden ratio."""
    return int(np.floor(gain + (turn * 0.6180339887498949) % 1.0))


@numba.njit(inline="always")
def advance(
    f: Fleet, cache: Cache, requests: Requests, rules: Rules, memory: Memory, plan: Plan, heap: Heap, log: Log, k: int, slot: int,
    now: float,
) -> None:  # fmt: skip
    """After a step: new tokens are seen, requests that have all theirs leave and let others come."""
    size, left, sent, yielded = f.batch_size[k, slot], 0, 0, 0
    full = int(f.waiting[k] > 0 and log.marks[BEGUN] >= rules.max_sequences * f.active.size)  # all places are taken
    if full or plan.chunk_s > 0.0:
        for i in range(size):
            r = f.batch[k, slot, i]
            sent += requests.computed[r] + requests.taken[r] == requests.prompt[r] + requests.made[r]
    if full:
        f.sums[k, FULL_S] += now - f.began[k]
    f.began[k] = now
    shown = now
    if plan.chunk_s > 0.0:
        shown = f.front_free[k] = max(f.front_free[k], now) + sent * plan.chunk_s
    gap, bin, reads_only = -1.0, 0, is_prefill(f, k)
    for i in range(size):
        r = f.batch[k, slot, i]
        some = 1
        if requests.taken[r] == 1 and requests.made[r] > 0 and rules.gain > 1.0:
            some = min(_kept(rules.gain, f.sums[k, STEPS] + r), requests.output[r] - requests.made[r])
        requests.computed[r] += requests.taken[r] + some - 1
        requests.taken[r] = requests.under_way[r] = 0
        if requests.computed[r] < requests.prompt[r] + requests.made[r]:
            continue
        yielded += some
        if requests.pinned[r] < requests.node_from[r + 1] - requests.node_from[r] or requests.made[r] == 0:
            publish(f, cache, requests, memory, k, r)
        seen = max(shown, requests.last[r])  # another replica's process may be behind
        if requests.made[r] == 0:
            requests.first[r] = seen
            log.marks[BEGUN] += 1
        else:
            if seen - requests.last[r] != gap:
                gap = seen - requests.last[r]
                bin = gap_bin(gap)
            log.gaps[full, bin] += 1
        requests.made[r] += some
        requests.last[r] = seen
        if requests.made[r] == requests.output[r]:
            leave(f, cache, requests, memory, k, r, True)
            left += 1
            log.marks[ENDED] += 1
            after = requests.then[r]
            if after >= 0:
                requests.arrival[after] += seen
                requests.home[after] = k
                heapq.heappush(heap, (requests.arrival[after], COME, after, 0))
        elif reads_only:
            size_bytes = sequence_bytes(memory, requests.computed[r])
            f.sums[k, MOVED_BYTES] += size_bytes
            f.link_free[k] = max(f.link_free[k], now) + plan.link_latency_s + size_bytes * plan.link_s_per_byte
            heapq.heappush(heap, (f.link_free[k], MOVE, r, f.epoch[k]))
            requests.taken[r] = -1
            left += 1
    f.sums[k, FULL_TOKENS] += full * yielded
    f.batch_size[k, slot] = 0
    if left > 0:
        position = 0
        for i in range(f.active[k]):
            r = f.running[k, i]
            if requests.made[r] < requests.output[r] and requests.taken[r] >= 0:
                f.running[k, position] = r
                position += 1
            elif requests.taken[r] < 0:
                requests.taken[r] = 0
        f.active[k] = position
    stop_idle(f, k, now)
