"""A replica, step by step: requests come, are scheduled, pass through the model, and leave. Deterministic; time is the steps'."""

from __future__ import annotations

import heapq

import numba
import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.simulate.serving.schedule import schedule
from waferline.simulate.serving.state import COUNT, FREE, HEAD, RESERVE, TAIL, Memory, Replica, Requests, Rules
from waferline.simulate.serving.step_time import step_seconds
from waferline.workloads.step_tables import StepTables

SAMPLES = 4096  # of the state over time; when they are full every second one is dropped
GAP_BINS, LEAST_GAP_S, MOST_GAP_S = 2048, 1e-5, 1e3  # of the histogram of gaps between tokens, each 0.9 % wide
Heap = list[tuple[float, int]]
Run = tuple[int, float, FloatArray, AnyArray, int]
SAMPLE_COLUMNS = ("start_s", "step_s", "running", "waiting", "memory_share", "prompt_tokens", "decodes")


@numba.njit(cache=True)
def serve(requests: Requests, rules: Rules, memory: Memory, steps: StepTables) -> Run:
    """Run until every request has ended.

    Returns (steps made, busy seconds, samples, gaps, stuck). samples: rows of `SAMPLE_COLUMNS`. gaps: histogram of the time
    between two tokens of a request. stuck: the request that no empty memory holds, or -1.
    """
    total = requests.arrival.size
    replica = Replica(
        np.zeros(rules.max_sequences + 1, np.int64),
        np.zeros(rules.max_sequences + 1, np.int64),
        np.zeros(2 * total + 2, np.int64),
        np.array([total, total, 0, 0]),
        np.array([memory.capacity, rules.reserve]),
    )
    coming = _first_requests(requests)
    samples, kept, every = np.zeros((SAMPLES, 7)), 0, 1
    gaps = np.zeros(GAP_BINS, np.int64)
    ended, count, now, busy = 0, 0, 0.0, 0.0
    while ended < total:
        _receive(replica, coming, now)
        schedule(replica, requests, rules, memory, now)
        decodes, context, tokens, pairs = _work(replica, requests)
        if decodes + tokens == 0:
            if replica.at[HEAD] < replica.at[TAIL]:  # nothing runs, and yet it does not fit
                return count, busy, samples[:kept], gaps, replica.queue[replica.at[HEAD]]
            now = coming[0][0]
            continue
        seconds = step_seconds(steps, decodes, context, tokens, pairs)
        if count % every == 0:
            if kept == SAMPLES:
                samples[: SAMPLES // 2] = samples[::2].copy()
                kept, every = SAMPLES // 2, every * 2
            row = samples[kept]
            row[0], row[1], row[2], row[3] = now, seconds, replica.at[COUNT], replica.at[TAIL] - replica.at[HEAD]
            row[4], row[5], row[6] = 1.0 - replica.room[FREE] / memory.capacity, tokens, decodes
            kept += 1
        now += seconds
        busy += seconds
        count += 1
        if decodes > 0 and rules.reserve_steps > 0.0:
            fall = (rules.reserve - rules.reserve_least) / rules.reserve_steps
            replica.room[RESERVE] = max(replica.room[RESERVE] - fall, rules.reserve_least)
        ended += _advance(replica, requests, coming, gaps, now)
    return count, busy, samples[:kept], gaps, -1


@numba.njit(cache=True)
def _first_requests(requests: Requests) -> Heap:
    """Requests that wait for no other, as a heap of (time, number)."""
    total = requests.arrival.size
    later = np.zeros(total, np.bool_)
    for r in range(total):
        if requests.then[r] >= 0:
            later[requests.then[r]] = True
    coming = [(requests.arrival[r], r) for r in range(total) if not later[r]]
    heapq.heapify(coming)
    return coming


@numba.njit(cache=True)
def _receive(s: Replica, coming: Heap, now: float) -> None:
    while len(coming) > 0 and coming[0][0] <= now:
        _, r = heapq.heappop(coming)
        s.queue[s.at[TAIL]] = r
        s.at[TAIL] += 1


@numba.njit(cache=True)
def _work(s: Replica, requests: Requests) -> tuple[int, float, int, float]:
    """What the step carries: decodes, their context in all, prompt tokens, query-key pairs of these."""
    decodes, context, tokens, pairs = 0, 0.0, 0, 0.0
    for i in range(s.at[COUNT]):
        r, some = s.running[i], s.taken[i]
        if some == 1 and requests.made[r] > 0:
            decodes += 1
            context += requests.computed[r] + 1.0
        elif some > 0:
            tokens += some
            pairs += some * (requests.computed[r] + 0.5 * (some + 1.0))
    return decodes, context, tokens, pairs


@numba.njit(cache=True)
def _advance(s: Replica, requests: Requests, coming: Heap, gaps: AnyArray, now: float) -> int:
    """After a step: new tokens are seen, requests that have all theirs leave and let others come. Returns how many left."""
    scale = GAP_BINS / np.log(MOST_GAP_S / LEAST_GAP_S)
    left, position = 0, 0
    for i in range(s.at[COUNT]):
        r = s.running[i]
        requests.computed[r] += s.taken[i]
        if s.taken[i] > 0 and requests.computed[r] == requests.prompt[r] + requests.made[r]:
            if requests.made[r] == 0:
                requests.first[r] = now
            else:
                gap = max(now - requests.last[r], LEAST_GAP_S)
                gaps[min(int(np.log(gap / LEAST_GAP_S) * scale), GAP_BINS - 1)] += 1
            requests.made[r] += 1
            requests.last[r] = now
            if requests.made[r] == requests.output[r]:
                s.room[FREE] += requests.held[r]
                requests.held[r] = 0.0
                left += 1
                after = requests.then[r]
                if after >= 0:
                    requests.arrival[after] += now
                    heapq.heappush(coming, (requests.arrival[after], after))
                continue
        s.running[position] = r
        position += 1
    s.at[COUNT] = position
    return left
