"""Steps in which nothing happens but one more token for each request of a replica: many at the price of one."""

from __future__ import annotations

import numba

from waferline.simulate.serving.queue import pour
from waferline.simulate.serving.replica_step import BEGUN, Log, gap_bin, note
from waferline.simulate.serving.route import is_prefill
from waferline.simulate.serving.state import FULL_S, FULL_TOKENS, Fleet, Memory, Plan, Requests, Rules
from waferline.simulate.serving.step_time import sequence_bytes, step_seconds
from waferline.workloads.step_tables import StepTables


@numba.njit(inline="always")
def glide(
    f: Fleet, requests: Requests, rules: Rules, memory: Memory, steps: StepTables, plan: Plan, log: Log, k: int, now: float,
    until: float,
) -> float:  # fmt: skip
    """Run replica `k` from the end of a step at `now` to the last step that ends before `until` and in which no request does.

    Returns when that ends, or `now`. What each request meets is the same as step by step; memory in use is counted by token in
    between, not by block.
    """
    n = f.active[k]
    if (
        n == 0
        or n > rules.max_tokens
        or rules.stages > 1
        or rules.positions > 1
        or plan.chunk_s > 0.0
        or is_prefill(f, k)
    ):
        return now
    late = f.active.size + 1 + k
    waits = f.waiting[k] + f.waiting[late] > 0
    if (waits and n < rules.max_sequences) or now + steps.graph_s[min(n, steps.graph_s.size - 1)] >= until:
        return now
    most, context = 1 << 60, 0.0
    for i in range(n):
        r = f.running[k, i]
        if requests.last[r] != now or requests.computed[r] != requests.prompt[r] + requests.made[r] - 1:
            return now
        most = min(most, requests.output[r] - requests.made[r] - 1)
        context += requests.computed[r] + 1.0
    spare = f.free[k] - f.cached[k]
    used, byte = 1.0 - spare / memory.capacity, memory.full + memory.window
    most = min(most, int(spare / (n * byte) - memory.block) if byte > 0.0 else most)
    fall = (rules.reserve - rules.reserve_least) / rules.reserve_steps if rules.reserve_steps > 0.0 else 0.0
    many, at, full = 0, now, int(waits and log.marks[BEGUN] >= rules.max_sequences * f.active.size)
    while many < most:
        seconds = step_seconds(steps, n, context, 0, 0.0, 1, rules.pass_tokens)
        if at + seconds >= until:
            break
        note(f, memory, log, k, at, seconds, seconds, used + many * n * memory.full / memory.capacity, 0, n)
        log.gaps[full, gap_bin(at + seconds - at)] += n  # as rounded as the times of its ends
        if fall > 0.0:
            f.reserve[k] = max(f.reserve[k] - fall, rules.reserve_least)
        f.began[k] = at = at + seconds
        context += n
        many += 1
    if many == 0:
        return now
    f.last_end[k] = at
    if full:
        f.sums[k, FULL_S] += at - now
        f.sums[k, FULL_TOKENS] += many * n
    pour(f, requests, late, k)
    for i in range(n):
        r = f.running[k, i]
        requests.made[r] += many
        requests.computed[r] += many
        requests.last[r] = at
        more = sequence_bytes(memory, requests.computed[r]) - memory.full * requests.shared[r] - requests.held[r]
        requests.held[r] += more
        f.free[k] -= more
    return at
