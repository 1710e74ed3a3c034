"""Causal attention with grouped queries on a key-value cache in f16 or int8.

Keys lie in tiles of 16 tokens, transposed: k[layer, head, token // 16, i, token % 16]; so sixteen scores come from one
pass of multiply-adds without any sum across lanes. Values lie as they come: v[layer, head, token, i]. An int8 cache keeps
one f32 scale per token and head for keys and one for values.

Four queries that share a key head are answered together: each key and value is read once for the four.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import prange

from waferline.errors import InvalidInputError, UnsupportedError, unknown
from waferline.kernels.cpu.activations import quantise
from waferline.kernels.cpu.jit import jit, specialise
from waferline.kernels.cpu.simd import (
    float_to_half,
    fma,
    load_f16,
    load_f32,
    load_i8,
    mul,
    spread,
    spread_f32,
    store_f32,
)
from waferline.kernels.cpu.softmax import softmax_reload
from waferline.kernels.cpu.threads import use_threads

TILE = 16  # tokens in a key tile
TOGETHER = 4  # queries answered at once
ELEMENT_BYTES = {"f16": 2, "q8": 1}

# Names the specialised copies bind.
LOAD: Any = None
SIZE = 0
SCALED = False
ATTEND: Any = None


# --- writing the cache ------------------------------------------------------------------------------------------------
def _write_f16(k: Any, v: Any, keys: Any, values: Any, k_scale: Any, v_scale: Any, layer: int, first: int) -> None:
    """Store k, v f32[n, heads, d] at tokens first ... first+n-1 of a layer (scales unused)."""
    tokens, heads, d = k.shape
    slots = values.shape[2]
    for t in range(tokens):
        token = first + t
        for h in range(heads):
            head = layer * values.shape[1] + h
            key = (head * slots + token // TILE * TILE) * d + token % TILE
            value = (head * slots + token) * d
            for i in range(d):
                float_to_half(keys, (key + i * TILE) * 2, k[t, h, i])
                float_to_half(values, (value + i) * 2, v[t, h, i])


def _write_q8(k: Any, v: Any, keys: Any, values: Any, k_scale: Any, v_scale: Any, layer: int, first: int) -> None:
    """The same in int8 with a scale per token and head."""
    tokens, heads, d = k.shape
    codes = np.empty(d, np.int8)
    sums = np.empty(d // 16, np.float32)
    for t in range(tokens):
        token = first + t
        for h in range(heads):
            k_scale[layer, h, token] = quantise(k, (t * heads + h) * d, d, codes, 0, 64, sums)
            for i in range(d):
                keys[layer, h, token // TILE, i, token % TILE] = codes[i]
            v_scale[layer, h, token] = quantise(v, (t * heads + h) * d, d, codes, 0, 64, sums)
            for i in range(d):
                values[layer, h, token, i] = codes[i]


# --- reading it -------------------------------------------------------------------------------------------------------
def _attend(
    q: Any, q_at: Any, since: Any, seen: Any, rows: int, d: int, keys: Any, k_at: int, values: Any, v_at: int, k_scale: Any,
    v_scale: Any, head_at: int, factor: float, cap: float, sinks: Any, scores: Any, out: Any,
) -> None:  # fmt: skip
    """Answer up to four queries of one key head.

    q, out f32 (any shape) with the queries' element offsets in q_at[4]; each looks at tokens since[4] ... seen[4]-1; keys and
    values begin at elements k_at and v_at; cap: scores become cap * tanh(score / cap), 0 for none; sinks f32[4]: a score each
    that takes its share and answers nothing, or empty; scores f32[4, more than slots] is scratch.
    """
    most, least = seen.max(), since[:rows].min()
    q0, q1, q2, q3 = q_at[0] * 4, q_at[1] * 4, q_at[2] * 4, q_at[3] * 4
    zero = spread(np.float32(0.0))
    scale = spread(np.float32(factor))
    slots = scores.shape[1]
    tiles = (most + TILE - 1) // TILE
    for tile in range(least // TILE, tiles, 2):  # two at once: four sums do not hide a multiply-add's latency
        after = min(tile + 1, tiles - 1)  # an odd last one goes with itself
        s0, s1, s2, s3, t0, t1, t2, t3 = zero, zero, zero, zero, zero, zero, zero, zero
        at, at_after = (k_at + tile * TILE * d) * SIZE, (k_at + after * TILE * d) * SIZE
        for i in range(d):
            one, two = LOAD(keys, at + i * TILE * SIZE), LOAD(keys, at_after + i * TILE * SIZE)
            query = spread_f32(q, q0 + i * 4)
            s0, t0 = fma(one, query, s0), fma(two, query, t0)
            query = spread_f32(q, q1 + i * 4)
            s1, t1 = fma(one, query, s1), fma(two, query, t1)
            query = spread_f32(q, q2 + i * 4)
            s2, t2 = fma(one, query, s2), fma(two, query, t2)
            query = spread_f32(q, q3 + i * 4)
            s3, t3 = fma(one, query, s3), fma(two, query, t3)
        left, right = scale, scale
        if SCALED:
            left = mul(scale, load_f32(k_scale, (head_at + tile * TILE) * 4))
            right = mul(scale, load_f32(k_scale, (head_at + after * TILE) * 4))
        place, step = tile * TILE * 4, (after - tile) * TILE * 4
        store_f32(scores, place, mul(s0, left))
        store_f32(scores, place + step, mul(t0, right))
        store_f32(scores, place + slots * 4, mul(s1, left))
        store_f32(scores, place + slots * 4 + step, mul(t1, right))
        store_f32(scores, place + slots * 8, mul(s2, left))
        store_f32(scores, place + slots * 8 + step, mul(t2, right))
        store_f32(scores, place + slots * 12, mul(s3, left))
        store_f32(scores, place + slots * 12 + step, mul(t3, right))
    for r in range(rows):
        row, end = scores[r], seen[r]
        if cap > 0:
            for t in range(since[r], end):
                row[t] = cap * np.tanh(row[t] / cap)
        if sinks.size:
            row[end] = sinks[r]
            end += 1
        softmax_reload(row[since[r] : end], row[since[r] : end])
        row[least : since[r]] = 0
        row[seen[r] : most] = 0
        if SCALED:
            for t in range(since[r], seen[r]):
                row[t] *= v_scale[head_at + t]
    for i in range(0, d, 2 * TILE):
        j = min(i + TILE, d - TILE)  # an odd last column block goes with itself
        o0, o1, o2, o3, p0, p1, p2, p3 = zero, zero, zero, zero, zero, zero, zero, zero
        for t in range(least, most):
            one, two = LOAD(values, (v_at + t * d + i) * SIZE), LOAD(values, (v_at + t * d + j) * SIZE)
            weight = spread_f32(scores, t * 4)
            o0, p0 = fma(one, weight, o0), fma(two, weight, p0)
            weight = spread_f32(scores, (slots + t) * 4)
            o1, p1 = fma(one, weight, o1), fma(two, weight, p1)
            weight = spread_f32(scores, (2 * slots + t) * 4)
            o2, p2 = fma(one, weight, o2), fma(two, weight, p2)
            weight = spread_f32(scores, (3 * slots + t) * 4)
            o3, p3 = fma(one, weight, o3), fma(two, weight, p3)
        # Last first: unused places repeat the first query's offset and must be overwritten by it.
        store_f32(out, q3 + i * 4, o3)
        store_f32(out, q3 + j * 4, p3)
        store_f32(out, q2 + i * 4, o2)
        store_f32(out, q2 + j * 4, p2)
        store_f32(out, q1 + i * 4, o1)
        store_f32(out, q1 + j * 4, p1)
        store_f32(out, q0 + i * 4, o0)
        store_f32(out, q0 + j * 4, p0)


def _attend_all(
    q: Any, heads: int, d: int, keys: Any, values: Any, k_scale: Any, v_scale: Any, layer: int, position: int, window: int,
    factor: float, cap: float, sinks: Any, scores: Any, out: Any, threads: int,
) -> None:  # fmt: skip
    """q, out f32[n, heads*d]: all heads of n tokens at `position` ..., units of four queries dealt out in turn. A token sees
    the last `window` ones, itself among them, or all where that is 0; sinks f32[heads] or empty."""
    key_heads, slots = values.shape[1], values.shape[2]
    group = heads // key_heads
    rows = q.shape[0] * group  # queries of one key head
    blocks = (rows + TOGETHER - 1) // TOGETHER
    for thread in prange(threads):
        q_at = np.zeros(TOGETHER, np.int64)
        seen = np.zeros(TOGETHER, np.int64)
        since = np.zeros(TOGETHER, np.int64)
        sunk = np.zeros(TOGETHER if sinks.size else 0, np.float32)
        for unit in range(thread, key_heads * blocks, threads):
            head, first = unit // blocks, unit % blocks * TOGETHER
            count = min(TOGETHER, rows - first)
            for j in range(TOGETHER):
                row = first + j if j < count else first
                token = row // group
                q_at[j] = (token * heads + head * group + row % group) * d
                seen[j] = position + token + 1 if j < count else 0
                since[j] = max(0, seen[j] - window) if window else 0
                if sinks.size:
                    sunk[j] = sinks[head * group + row % group]
            at = (layer * key_heads + head) * slots
            ATTEND(
                q, q_at, since, seen, count, d, keys, at * d, values, at * d, k_scale.reshape(-1), v_scale.reshape(-1), at,
                factor, cap, sunk, scores[thread], out,
            )  # fmt: skip


_SPECIAL = {
    "f16": {"LOAD": load_f16, "SIZE": 2, "SCALED": False},
    "q8": {"LOAD": load_i8, "SIZE": 1, "SCALED": True},
}


@cache
def attention_kernel(kind: str) -> Any:
    """The compiled `_attend_all` for a cache kind (`f16` or `q8`)."""
    attend = specialise(_attend, f"attend_{kind}", **_SPECIAL[kind])
    return specialise(_attend_all, f"attend_all_{kind}", parallel=True, ATTEND=attend)


@cache
def writer_kernel(kind: str) -> Any:
    """The compiled cache writer of a kind."""
    return jit({"f16": _write_f16, "q8": _write_q8}[kind])


@dataclass(slots=True)
class KVCache:
    """Keys and values of all layers. `tokens` of `slots` are filled."""

    kind: str
    keys: np.ndarray
    values: np.ndarray
    k_scale: np.ndarray
    v_scale: np.ndarray
    tokens: int = 0

    @property
    def slots(self) -> int:
        return int(self.values.shape[2])

    @classmethod
    def empty(cls, kind: str, layers: int, heads: int, context: int, head_dim: int) -> KVCache:
        """Room for at least `context` tokens. Raises `UnknownNameError` for a kind that is neither f16 nor q8."""
        if kind not in ELEMENT_BYTES:
            raise unknown("KV cache format", kind, ELEMENT_BYTES)
        if head_dim % TILE:
            raise UnsupportedError(f"attention heads of {head_dim} elements", hint=f"a multiple of {TILE}")
        slots = -(-context // TILE) * TILE
        element = {"f16": np.uint16, "q8": np.int8}[kind]
        scales = (layers, heads, slots) if kind == "q8" else (1, 1, TILE)
        return cls(
            kind,
            np.zeros((layers, heads, slots // TILE, head_dim, TILE), element),
            np.zeros((layers, heads, slots, head_dim), element),
            np.zeros(scales, np.float32),
            np.zeros(scales, np.float32),
        )

    @staticmethod
    def size_bytes(kind: str, layers: int, heads: int, context: int, head_dim: int) -> int:
        """What `empty` will allocate."""
        slots = -(-context // TILE) * TILE
        return 2 * layers * heads * slots * (head_dim * ELEMENT_BYTES[kind] + (4 if kind == "q8" else 0))

    def write(self, layer: int, first: int, k: np.ndarray, v: np.ndarray) -> None:
        """k, v f32[n, heads, head_dim] become tokens first ... first+n-1 of a layer."""
        if first < 0 or first + k.shape[0] > self.slots or k.shape[1:] != self.values.shape[1::2] or v.shape != k.shape:
            raise InvalidInputError(f"k {k.shape} at token {first} of {self.slots}", where="kv cache")
        arrays = (np.ascontiguousarray(k, np.float32), np.ascontiguousarray(v, np.float32))
        writer_kernel(self.kind)(*arrays, *self.arrays, layer, first)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """keys, values, k_scale, v_scale, as kernels take them."""
        return self.keys, self.values, self.k_scale, self.v_scale

    def scratch(self, threads: int) -> np.ndarray:
        """Room for the scores of one key head in each thread, and a sink's."""
        return np.zeros((threads, TOGETHER, self.slots + TILE), np.float32)

    def attend(
        self, layer: int, position: int, q: np.ndarray, *, threads: int = 1, window: int = 0, cap: float = 0.0,
        sinks: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """softmax(q k^T / sqrt(d)) v, causal: query t sees tokens 0 ... position + t, or the last `window` of them.

        cap: scores become cap * tanh(score / cap). sinks f32[heads]: a score a head that takes its share of the softmax.

        q f32[n, heads, d] -> f32[n, heads, d]; n = 1 is a decode step, more a prefill. NaN in a query makes that query's
        answer NaN; NaN in a visible key or value makes the answers that see it NaN, and may those of tokens before it that
        are answered together with one that does.
        """
        q = np.ascontiguousarray(q, np.float32)
        key_heads, d = self.values.shape[1], self.values.shape[3]
        if q.ndim != 3 or q.shape[2] != d or q.shape[1] % key_heads or not 0 <= position <= self.slots - q.shape[0]:
            raise InvalidInputError(
                f"q {q.shape} at {position} on a cache of {key_heads} heads x {d}", where="attention"
            )
        use_threads(threads)
        out = np.empty_like(q)
        sinks = np.zeros(0, np.float32) if sinks is None else np.ascontiguousarray(sinks, np.float32)
        attention_kernel(self.kind)(
            q.reshape(q.shape[0], -1), q.shape[1], d, *self.arrays, layer, position, window,
             np.float32(d**-0.5), np.float32(cap), sinks, self.scratch(threads), out.reshape(q.shape[0], -1), threads,
        )  # fmt: skip
        return out
