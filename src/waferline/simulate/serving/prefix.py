"""The prefix cache of a replica: nodes that requests keep, and nodes that nobody uses and that memory may take back.

Bytes of kept nodes are not free; those of the others are free and, for as long as there is room, cached: `cached <= free` always.
The least recently used go first, of one request the deepest first (vLLM `block_pool.py`; SGLang `radix_cache.py` drops leaves).
"""

from __future__ import annotations

import numba
import numpy as np

from waferline.simulate.serving.state import Cache, Fleet, Memory, Requests
from waferline.simulate.serving.step_time import sequence_bytes


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def found(cache: Cache, requests: Requests, k: int, r: int) -> int:
    """Prompt tokens of request `r` that replica `k` holds, from the first on."""
    total = 0
    for i in range(requests.node_from[r], requests.node_from[r + 1]):
        have = cache.tokens[k, requests.node[i]]
        if have < requests.node_tokens[i]:
            return total + have
        total += requests.node_tokens[i]
    return total


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def idle_bytes(cache: Cache, requests: Requests, memory: Memory, k: int, r: int, tokens: int) -> float:
    """Bytes of the first `tokens` of the path that nobody keeps: to keep them makes them unfree."""
    total, i = 0.0, requests.node_from[r]
    while tokens > 0:
        if cache.users[k, requests.node[i]] == 0:
            total += memory.full * min(tokens, requests.node_tokens[i])
        tokens -= requests.node_tokens[i]
        i += 1
    return total


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def keep(f: Fleet, cache: Cache, requests: Requests, memory: Memory, k: int, r: int, tokens: int) -> None:
    """Keep the nodes under the first `tokens` of the path."""
    i = requests.node_from[r]
    while tokens > 0:
        _use(f, cache, memory, k, requests.node[i], min(tokens, requests.node_tokens[i]))
        tokens -= requests.node_tokens[i]
        i += 1
    requests.pinned[r] = i - requests.node_from[r]


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _use(f: Fleet, cache: Cache, memory: Memory, k: int, n: int, tokens: int) -> None:
    """One more keeps a node, of which it reads `tokens`; of one that nobody kept, more than these are dropped."""
    if cache.users[k, n] == 0 and cache.tokens[k, n] > 0:
        before, after = cache.before[k, n], cache.after[k, n]
        cache.after[k, before], cache.before[k, after] = after, before
        f.cached[k] -= memory.full * cache.tokens[k, n]
        cache.tokens[k, n] = min(int(cache.tokens[k, n]), tokens)
        f.free[k] -= memory.full * cache.tokens[k, n]
    cache.users[k, n] += 1


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def publish(f: Fleet, cache: Cache, requests: Requests, memory: Memory, k: int, r: int) -> None:
    """The whole prompt is read: what it held of its own becomes nodes that others find; what they had already is given back."""
    start, end = requests.node_from[r], requests.node_from[r + 1]
    if start == end:
        return
    total = 0
    for i in range(start, end):
        total += requests.node_tokens[i]
    own = sequence_bytes(memory, requests.computed[r]) - memory.full * total
    f.free[k] += requests.held[r] - own
    requests.held[r] = own
    requests.shared[r] = total
    for i in range(start, end):
        n = requests.node[i]
        if i - start >= requests.pinned[r]:
            _use(f, cache, memory, k, n, requests.node_tokens[i])
        more = requests.node_tokens[i] - cache.tokens[k, n]
        if more > 0:
            cache.tokens[k, n] += more
            f.free[k] -= memory.full * more
    requests.pinned[r] = end - start
    make_room(f, cache, memory, k)


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def leave(f: Fleet, cache: Cache, requests: Requests, memory: Memory, k: int, r: int, ended: bool) -> None:
    """Give memory back; nodes stay in the cache for as long as there is room."""
    start, pinned = requests.node_from[r], requests.pinned[r]
    f.free[k] += requests.held[r]
    requests.held[r] = 0.0
    if ended and requests.grows[r] == 1 and pinned > 0:  # what was generated is part of the conversation
        n = requests.node[start + pinned - 1]
        grown = requests.node_tokens[start + pinned - 1] + requests.computed[r] - requests.prompt[r]
        room = np.floor(f.free[k] / memory.full) if memory.full > 0.0 else np.inf  # states alone grow with no token
        more = min(float(grown - cache.tokens[k, n]), max(room, 0.0))
        if more > 0:
            cache.tokens[k, n] += int(more)
            f.free[k] -= memory.full * more
    for i in range(start + pinned - 1, start - 1, -1):
        n = requests.node[i]
        cache.users[k, n] -= 1
        if cache.users[k, n] == 0 and cache.tokens[k, n] > 0:
            size = memory.full * cache.tokens[k, n]
            f.free[k] += size
            f.cached[k] += size
            end = cache.tokens.shape[1] - 1
            last = cache.before[k, end]
            cache.after[k, last], cache.before[k, n], cache.after[k, n], cache.before[k, end] = n, last, end, n
    requests.pinned[r] = requests.shared[r] = 0
    make_room(f, cache, memory, k)


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def make_room(f: Fleet, cache: Cache, memory: Memory, k: int) -> None:
    """Drop cached tokens until they find room in what is free: from the ends of the nodes that were used longest ago."""
    end = cache.tokens.shape[1] - 1
    while f.cached[k] > f.free[k] + 0.5:
        n = cache.after[k, end]
        if n == end:  # nothing but a rest of rounding
            f.cached[k] = 0.0
            return
        gone = min(
            float(cache.tokens[k, n]), np.ceil((f.cached[k] - f.free[k]) / memory.full / memory.block) * memory.block
        )
        cache.tokens[k, n] -= int(gone)
        f.cached[k] -= memory.full * gone
        if cache.tokens[k, n] == 0:
            before, after = cache.before[k, n], cache.after[k, n]
            cache.after[k, before], cache.before[k, after] = after, before


@numba.njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def forget(f: Fleet, cache: Cache, memory: Memory, k: int) -> None:
    """Everything, as after a failure."""
    cache.tokens[k, :] = 0
    cache.users[k, :] = 0
    cache.before[k, :] = cache.tokens.shape[1] - 1
    cache.after[k, :] = cache.tokens.shape[1] - 1
    f.free[k] = memory.capacity
    f.cached[k] = 0.0
