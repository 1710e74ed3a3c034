"""Who gets tokens in a step: the engines' schedulers as one function over `Rules`."""

from __future__ import annotations

import numba

from waferline.simulate.serving.state import BUDGET, COUNT, FREE, HEAD, RESERVE, TAIL, Memory, Replica, Requests, Rules
from waferline.simulate.serving.step_time import sequence_bytes

RETRACTION_STEPS = 20.0  # decodes that a retraction makes room for


@numba.njit(cache=True)
def schedule(s: Replica, requests: Requests, rules: Rules, memory: Memory, now: float) -> None:
    """Fill a step: `s.taken` tells how many tokens each running request takes."""
    s.taken[: s.at[COUNT]] = 0
    s.at[BUDGET] = rules.max_tokens
    if not rules.mixed:
        take(s, requests, rules, memory, True, False)  # a prompt that was cut goes on first
        admit(s, requests, rules, memory, now)
        if s.at[BUDGET] == rules.max_tokens:
            take(s, requests, rules, memory, False, True)
        return
    if rules.decodes_first:
        evicted = take(s, requests, rules, memory, False, True)
        evicted |= take(s, requests, rules, memory, True, True)
    else:
        evicted = take(s, requests, rules, memory, True, True)
    if not evicted:
        admit(s, requests, rules, memory, now)


@numba.njit(cache=True)
def take(s: Replica, requests: Requests, rules: Rules, memory: Memory, prompts: bool, decodes: bool) -> bool:
    """Give tokens to running requests in the order of admission: to those that read a prompt, that generate, or both.

    Where memory ends, requests are put back until there is room. Returns whether one was.
    """
    evicted, i = False, 0
    while i < s.at[COUNT]:
        r = s.running[i]
        left = requests.prompt[r] + requests.made[r] - requests.computed[r]
        reads = left > 1 or requests.made[r] == 0
        if s.taken[i] > 0 or s.at[BUDGET] == 0 or not (prompts if reads else decodes):
            i += 1
            continue
        some = min(left, s.at[BUDGET])
        more = max(sequence_bytes(memory, requests.computed[r] + some) - requests.held[r], 0.0)
        if more > s.room[FREE]:
            evicted = True
            gone = put_back(s, requests, rules)
            i -= gone < i  # those behind it moved up
            continue
        requests.held[r] += more
        s.room[FREE] -= more
        s.taken[i] = some
        s.at[BUDGET] -= some
        i += 1
    return evicted


@numba.njit(cache=True)
def put_back(s: Replica, requests: Requests, rules: Rules) -> int:
    """Take a request out of memory, to the head of the queue: it reads all its tokens again. Returns its position."""
    gone = s.at[COUNT] - 1
    if rules.evict_fewest:
        for i in range(s.at[COUNT]):
            if requests.made[s.running[i]] < requests.made[s.running[gone]]:
                gone = i
    r = s.running[gone]
    s.room[FREE] += requests.held[r]
    s.at[BUDGET] += s.taken[gone]
    requests.held[r] = 0.0
    requests.computed[r] = 0
    requests.preempted[r] += 1
    for i in range(gone, s.at[COUNT] - 1):
        s.running[i] = s.running[i + 1]
        s.taken[i] = s.taken[i + 1]
    s.at[COUNT] -= 1
    s.at[HEAD] -= 1
    s.queue[s.at[HEAD]] = r
    if rules.reserve_steps > 0.0:
        s.room[RESERVE] = _after_retraction(s, requests)
    return gone


@numba.njit(cache=True)
def _after_retraction(s: Replica, requests: Requests) -> float:
    """Share that running requests have generated on average, and a little more (SGLang `retract_decode`)."""
    made, total = 0.0, 1.0
    for i in range(s.at[COUNT]):
        made += requests.made[s.running[i]] + RETRACTION_STEPS
        total += requests.output[s.running[i]]
    return min(made / total, 1.0)


@numba.njit(cache=True)
def reserved(r: int, s: Replica, requests: Requests, rules: Rules, memory: Memory) -> float:
    """Bytes that request `r` is kept room for, beyond what it holds."""
    to_come = min(float(requests.output[r] - requests.made[r]), rules.reserve_tokens) * s.room[RESERVE]
    final = sequence_bytes(memory, int(requests.prompt[r] + requests.made[r] + to_come))
    return max(final - requests.held[r], 0.0)


@numba.njit(cache=True)
def admit(s: Replica, requests: Requests, rules: Rules, memory: Memory, now: float) -> None:
    """Waiting requests in their order, until one finds no place: those behind it wait, too."""
    ahead = 0.0
    if s.room[RESERVE] > 0.0:
        for i in range(s.at[COUNT]):
            ahead += reserved(s.running[i], s, requests, rules, memory)
    room = s.room[FREE] - rules.watermark * memory.capacity
    while s.at[HEAD] < s.at[TAIL] and s.at[BUDGET] > 0 and s.at[COUNT] < rules.max_sequences:
        r = s.queue[s.at[HEAD]]
        known = requests.prompt[r] + requests.made[r]
        cached = min(requests.shared[r], known - 1) // memory.block * memory.block  # the last token is computed anew
        some = min(known - cached, s.at[BUDGET])
        if some < known - cached and not rules.chunked:
            return
        needed = sequence_bytes(memory, cached + some)
        if max(needed, reserved(r, s, requests, rules, memory) if s.room[RESERVE] > 0.0 else 0.0) + ahead > room:
            return
        requests.computed[r] = cached
        requests.held[r] = needed
        s.room[FREE] -= needed
        room -= needed
        if requests.admitted[r] < 0.0:
            requests.admitted[r] = now
        s.running[s.at[COUNT]] = r
        s.taken[s.at[COUNT]] = some
        s.at[COUNT] += 1
        s.at[HEAD] += 1
        s.at[BUDGET] -= some
        if s.room[RESERVE] > 0.0:
            ahead += reserved(r, s, requests, rules, memory)
