"""Who gets tokens in a step: the engines' schedulers as one function over `Rules`."""

from __future__ import annotations

import numba

from waferline.simulate.serving.prefix import found, idle_bytes, keep, leave, make_room
from waferline.simulate.serving.queue import foremost, pop, push
from waferline.simulate.serving.state import Cache, Fleet, Memory, Requests, Rules
from waferline.simulate.serving.step_time import sequence_bytes

RETRACTION_STEPS = 20.0  # decodes that a retraction makes room for


@numba.njit(inline="always")
def schedule(f: Fleet, cache: Cache, requests: Requests, rules: Rules, memory: Memory, k: int, now: float) -> None:
    """Fill a step of replica `k`: `requests.taken` tells how many tokens each running request takes."""
    f.budget[k] = rules.max_tokens
    if not rules.mixed:
        take(f, cache, requests, rules, memory, k, True, False)  # a prompt that was cut goes on first
        admit(f, cache, requests, rules, memory, k, now)
        if f.budget[k] == rules.max_tokens:
            take(f, cache, requests, rules, memory, k, False, True)
        return
    if rules.decodes_first:
        evicted = take(f, cache, requests, rules, memory, k, False, True)
        evicted |= take(f, cache, requests, rules, memory, k, True, True)
    else:
        evicted = take(f, cache, requests, rules, memory, k, True, True)
    if not evicted:
        admit(f, cache, requests, rules, memory, k, now)


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def take(
    f: Fleet, cache: Cache, requests: Requests, rules: Rules, memory: Memory, k: int, prompts: bool, decodes: bool
) -> bool:
    """Give tokens to running requests in the order of admission: to those that read a prompt, that generate, or both.

    Where memory ends, requests are put back until there is room. Returns whether one was.
    """
    evicted, i = False, 0
    while i < f.active[k]:
        r = f.running[k, i]
        left = requests.prompt[r] + requests.made[r] - requests.computed[r]
        reads = left > 1 or requests.made[r] == 0
        if requests.taken[r] > 0 or f.budget[k] == 0 or not (prompts if reads else decodes):
            i += 1
            continue
        some = min(left, f.budget[k])
        rows = some if reads else rules.positions
        more, has, tokens = 0.0, requests.held[r] + memory.full * requests.shared[r], requests.computed[r] + rows
        if memory.window > 0.0 or memory.state + memory.full * tokens > has:  # beyond its blocks
            more = sequence_bytes(memory, tokens) - has
        if more > f.free[k]:
            gone = put_back(f, cache, requests, rules, memory, k)
            if gone < 0:
                return True
            evicted = True
            i -= gone < i  # those behind it moved up
            continue
        if more > 0.0:
            requests.held[r] += more
            f.free[k] -= more
            make_room(f, cache, memory, k)
        requests.taken[r] = some
        f.budget[k] -= min(rows, f.budget[k])
        i += 1
    return evicted


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def put_back(f: Fleet, cache: Cache, requests: Requests, rules: Rules, memory: Memory, k: int) -> int:
    """Take a request out of memory, to the head of the queue: it reads all its tokens again. Returns its position, or -1.

    -1: the one whose turn it is to go is in a step under way, whose end is waited for. If another went in its place, two
    requests of two pipeline stages could put each other back for ever.
    """
    gone = -1
    for i in range(f.active[k] - 1, -1, -1):
        r = f.running[k, i]
        if gone < 0:
            gone = i
            if not rules.evict_fewest and f.head.shape[1] == 1:
                break
            continue
        other = f.running[k, gone]
        later = requests.priority[r] - requests.priority[other]
        if later > 0 or (later == 0 and rules.evict_fewest and requests.made[r] < requests.made[other]):
            gone = i
    if gone < 0 or requests.under_way[f.running[k, gone]] == 1:
        return -1
    r = f.running[k, gone]
    f.budget[k] += requests.taken[r]
    requests.taken[r] = 0
    requests.computed[r] = 0
    requests.moved[r] = 0
    requests.preempted[r] += 1
    leave(f, cache, requests, memory, k, r, False)
    for i in range(gone, f.active[k] - 1):
        f.running[k, i] = f.running[k, i + 1]
    f.active[k] -= 1
    push(f, requests, k, r, True)
    if rules.reserve_steps > 0.0:
        f.reserve[k] = _after_retraction(f, requests, k)
    return gone


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _after_retraction(f: Fleet, requests: Requests, k: int) -> float:
    """Share that running requests have generated on average, and a little more (SGLang `retract_decode`)."""
    made, total = 0.0, 1.0
    for i in range(f.active[k]):
        made += requests.made[f.running[k, i]] + RETRACTION_STEPS
        total += requests.output[f.running[k, i]]
    return min(made / total, 1.0)


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def reserved(r: int, requests: Requests, rules: Rules, memory: Memory, share: float) -> float:
    """Bytes that request `r` is kept room for, beyond what it holds and shares."""
    to_come = min(float(requests.output[r] - requests.made[r]), rules.reserve_tokens) * share
    final = sequence_bytes(memory, int(requests.prompt[r] + requests.made[r] + to_come))
    return max(final - memory.full * requests.shared[r] - requests.held[r], 0.0)


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def admit(f: Fleet, cache: Cache, requests: Requests, rules: Rules, memory: Memory, k: int, now: float) -> None:
    """Waiting requests in their order, until one finds no place: those behind it wait, too."""
    if rules.wait_for_all and f.active[k] > 0:
        return
    ahead, share = 0.0, f.reserve[k]
    if share > 0.0:
        for i in range(f.active[k]):
            ahead += reserved(f.running[k, i], requests, rules, memory, share)
    room = f.free[k] - rules.watermark * memory.capacity
    while f.budget[k] > 0 and f.active[k] < rules.max_sequences:
        r = foremost(f, k)
        if r < 0:
            return
        known = requests.prompt[r] + requests.made[r]
        hits = (
            min(found(cache, requests, k, r), known - 1) // memory.block * memory.block
        )  # the last one is computed anew
        cached = known - 1 if requests.moved[r] == 1 else hits
        some = min(known - cached, f.budget[k])
        if some < known - cached and not rules.chunked:
            return
        own = sequence_bytes(memory, cached + some) - memory.full * hits
        idle = idle_bytes(cache, requests, memory, k, r, hits)
        requests.shared[r] = hits
        whole = max(own, reserved(r, requests, rules, memory, share) if share > 0.0 else 0.0)
        if whole + idle + ahead > room:
            requests.shared[r] = 0
            return
        pop(f, requests, k)
        keep(f, cache, requests, memory, k, r, hits)
        f.free[k] -= own
        make_room(f, cache, memory, k)
        requests.computed[r], requests.held[r], requests.taken[r] = cached, own, some
        if requests.admitted[r] < 0.0:
            requests.admitted[r] = now
            requests.hits[r] = hits
        f.running[k, f.active[k]] = r
        f.active[k] += 1
        f.budget[k] -= some
        room -= own + idle
        if share > 0.0:
            ahead += reserved(r, requests, rules, memory, share)
