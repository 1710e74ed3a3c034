"""One token through the whole model inside one compiled function: no Python between the first norm and the logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from waferline.kernels.cpu.activations import buffers, pack_f32, pack_q8_0, pack_q8_k
from waferline.kernels.cpu.attention import attention_kernel, writer_kernel
from waferline.kernels.cpu.elementwise import add_rows, rms_norm_rows, rope_rows, swiglu_row
from waferline.kernels.cpu.jit import jit
from waferline.kernels.cpu.matmul import PREFETCH_BYTES, layout_for, sweep_kernel
from waferline.kernels.cpu.simd import cycle_counter
from waferline.kernels.cpu.softmax import softmax_reload
from waferline.kernels.cpu.tiles import CODES, TILES
from waferline.kernels.runner.weights import (
    BLOCKS,
    DOWN,
    DOWNS,
    FORMAT,
    GATE,
    GATES,
    MATRIX_BYTES,
    OFFSET,
    PROJECTION,
    ROUTER,
    ROW_TILES,
    SHARED_DOWN,
    SHARED_GATE,
    SHARED_UP,
    UP,
    UPS,
    K,
    Q,
    V,
)  # fmt: skip

# What the time of a token is divided into; `ticks` has one counter each.
OPERATORS = (
    "norm", "quantise", "attn_qkv", "rope_and_cache", "attention", "attn_output", "router", "ffn_gate_up", "swiglu", "ffn_down",
    "output",
)  # fmt: skip
(NORM, QUANTISE, QKV, ROPE, ATTENTION, ATTN_OUT, ROUTE, GATE_UP, SWIGLU, DOWN_OP, OUTPUT) = range(len(OPERATORS))

_Q8K_FORMATS = tuple(CODES[t.name] for t in TILES.values() if t.activation == "q8_k")
_Q80_FORMATS = tuple(CODES[t.name] for t in TILES.values() if t.activation == "q8_0")
_Q4_K, _Q5_K, _Q6_K, _Q8_0, _Q4_0 = (CODES[n] for n in ("Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0"))
_TQ2_0, _F16, _BF16, _F32 = (CODES[n] for n in ("TQ2_0", "F16", "BF16", "F32"))
_sweep_q4_k = sweep_kernel("Q4_K", layout_for(TILES["Q4_K"], 1))
_sweep_q5_k = sweep_kernel("Q5_K", layout_for(TILES["Q5_K"], 1))
_sweep_q6_k = sweep_kernel("Q6_K", layout_for(TILES["Q6_K"], 1))
_sweep_q8_0 = sweep_kernel("Q8_0", layout_for(TILES["Q8_0"], 1))
_sweep_q4_0 = sweep_kernel("Q4_0", layout_for(TILES["Q4_0"], 1))
_sweep_tq2_0 = sweep_kernel("TQ2_0", layout_for(TILES["TQ2_0"], 1))
_sweep_f16 = sweep_kernel("F16", layout_for(TILES["F16"], 1))
_sweep_bf16 = sweep_kernel("BF16", layout_for(TILES["BF16"], 1))
_sweep_f32 = sweep_kernel("F32", layout_for(TILES["F32"], 1))


class Packed(NamedTuple):
    """One activation vector in one layout (see `cpu.activations`)."""

    codes: np.ndarray
    sums: np.ndarray
    sums16: np.ndarray
    scales: np.ndarray


class Work(NamedTuple):
    """Work arrays of a decode step; rows are padded to whole tiles."""

    k: Packed  # the activation for K formats
    z: Packed  # for Q8_0 and Q4_0
    f: Packed  # for float weights
    h: np.ndarray  # f32[1, width] normalised input
    q: np.ndarray
    kk: np.ndarray
    v: np.ndarray
    attended: np.ndarray
    o: np.ndarray
    gate: np.ndarray
    up: np.ndarray
    act: np.ndarray
    router: np.ndarray
    scores: np.ndarray  # f32[threads, 4, slots]


class Model(NamedTuple):
    """What a decode step reads."""

    arena: np.ndarray
    table: np.ndarray
    attn_norm: np.ndarray
    ffn_norm: np.ndarray
    q_norm: np.ndarray
    k_norm: np.ndarray
    q_bias: np.ndarray
    k_bias: np.ndarray
    v_bias: np.ndarray
    o_bias: np.ndarray
    shared_gate: np.ndarray
    output_norm: np.ndarray
    cos: np.ndarray
    sin: np.ndarray


class Shape(NamedTuple):
    """The numbers of `ModelConfig` a decode step needs."""

    heads: int
    kv_heads: int
    head_dim: int
    d_model: int
    ffn: int
    experts: int
    experts_used: int
    shared_ffn: int
    halves: bool
    renormalise: bool
    eps: float


def packed_for(kind: str, width: int) -> Packed:
    """Buffers for one vector of up to `width` elements."""
    block = {"q8_k": 256, "q8_0": 64, "f32": 32}[kind]
    return Packed(*buffers(kind, -(-width // block) * block, 1, 1))


@jit(parallel=True)
def _product(
    fmt: int, w: Any, at: int, row_tiles: int, blocks: int, k: Any, z: Any, f: Any, y: Any, threads: int
) -> None:
    """y[0] = one matrix times the packed activation of its kind, row tiles shared by the threads."""
    ldy = y.shape[1]
    for t in prange(threads):
        a, b = t * row_tiles // threads, (t + 1) * row_tiles // threads
        if fmt == _Q4_K:
            _sweep_q4_k(w, at, a, b, blocks, k.codes, k.sums, k.sums16, k.scales, y, ldy, 1, 1, PREFETCH_BYTES)
        elif fmt == _Q6_K:
            _sweep_q6_k(w, at, a, b, blocks, k.codes, k.sums, k.sums16, k.scales, y, ldy, 1, 1, PREFETCH_BYTES)
        elif fmt == _Q5_K:
            _sweep_q5_k(w, at, a, b, blocks, k.codes, k.sums, k.sums16, k.scales, y, ldy, 1, 1, PREFETCH_BYTES)
        elif fmt == _TQ2_0:
            _sweep_tq2_0(w, at, a, b, blocks, k.codes, k.sums, k.sums16, k.scales, y, ldy, 1, 1, PREFETCH_BYTES)
        elif fmt == _Q8_0:
            _sweep_q8_0(w, at, a, b, blocks, z.codes, z.sums, z.sums16, z.scales, y, ldy, 1, 1, PREFETCH_BYTES)
        elif fmt == _Q4_0:
            _sweep_q4_0(w, at, a, b, blocks, z.codes, z.sums, z.sums16, z.scales, y, ldy, 1, 1, PREFETCH_BYTES)
        elif fmt == _F16:
            _sweep_f16(w, at, a, b, blocks, f.codes, f.sums, f.sums16, f.scales, y, ldy, 1, 1, PREFETCH_BYTES)
        elif fmt == _BF16:
            _sweep_bf16(w, at, a, b, blocks, f.codes, f.sums, f.sums16, f.scales, y, ldy, 1, 1, PREFETCH_BYTES)
        elif fmt == _F32:
            _sweep_f32(w, at, a, b, blocks, f.codes, f.sums, f.sums16, f.scales, y, ldy, 1, 1, PREFETCH_BYTES)


@jit
def _pack(x: Any, fmt: int, work: Any, ready: Any) -> None:
    """Pack x f32[1, width] for a format unless `ready` says it is; `ready` is cleared when x changes."""
    if fmt in _Q8K_FORMATS:
        if not ready[0]:
            pack_q8_k(x, 1, 0, 1, work.k.codes, work.k.sums, work.k.sums16, work.k.scales)
        ready[0] = 1
    elif fmt in _Q80_FORMATS:
        if not ready[1]:
            pack_q8_0(x, 1, 0, 1, work.z.codes, work.z.sums, work.z.sums16, work.z.scales)
        ready[1] = 1
    else:
        if not ready[2]:
            width = (x.shape[1] + 31) // 32 * 32
            pack_f32(x, 1, 0, 1, work.f.codes[:width], work.f.sums, work.f.sums16, work.f.scales)
        ready[2] = 1


@jit
def _times(
    x: Any, row: Any, expert: int, model: Any, work: Any, ready: Any, y: Any, ticks: Any, op: int, threads: int
) -> None:
    """y = W x for the matrix of a table row (the `expert`-th of its kind)."""
    start = cycle_counter()
    _pack(x, row[FORMAT], work, ready)
    middle = cycle_counter()
    at = row[OFFSET] + expert * row[MATRIX_BYTES]
    _product(row[FORMAT], model.arena, at, row[ROW_TILES], row[BLOCKS], work.k, work.z, work.f, y, threads)
    ticks[QUANTISE] += middle - start
    ticks[op] += cycle_counter() - middle


@jit
def head_norm(x: Any, weight: Any, heads: int, d: int, eps: float) -> None:
    """RMSNorm of each head in place. x f32[n, at least heads*d]."""
    for r in range(x.shape[0]):
        rows = x[r, : heads * d].reshape(heads, d)
        rms_norm_rows(rows, weight, eps, rows, 0, heads)


@jit
def add_bias(x: Any, bias: Any) -> None:
    """x[:, :n] += bias f32[n]."""
    for r in range(x.shape[0]):
        for i in range(bias.size):
            x[r, i] += bias[i]


@jit
def choose(logits: Any, used: int, renormalise: bool, chosen: Any, weights: Any) -> None:
    """The `used` experts of largest probability, lower number first among equals, and their weights."""
    softmax_reload(logits, logits)
    total = np.float32(0.0)
    for j in range(used):
        best = np.argmax(logits)
        chosen[j], weights[j] = best, logits[best]
        total += weights[j]
        logits[best] = np.float32(-1.0)
    if renormalise:
        for j in range(used):
            weights[j] /= total


@jit
def _feed_forward(
    x: Any,
    expert: int,
    weight: float,
    width: int,
    rows: Any,
    ready: Any,
    model: Any,
    work: Any,
    out: Any,
    ticks: Any,
    threads: int,
) -> None:
    """out += weight * down(silu(gate x) * (up x)) for the three table rows of one network."""
    _times(x, rows[0], expert, model, work, ready, work.gate, ticks, GATE_UP, threads)
    _times(x, rows[1], expert, model, work, ready, work.up, ticks, GATE_UP, threads)
    start = cycle_counter()
    act = work.act[0, :width]
    swiglu_row(work.gate[0, :width], work.up[0, :width], act)
    ticks[SWIGLU] += cycle_counter() - start
    _times(act.reshape(1, width), rows[2], expert, model, work, np.zeros(3, np.int64), work.o, ticks, DOWN_OP, threads)
    for i in range(out.shape[1]):
        out[0, i] += np.float32(weight) * work.o[0, i]


@jit
def _mixture(x: Any, layer: int, h: Any, model: Any, work: Any, shape: Any, ticks: Any, threads: int) -> None:
    """x += the chosen experts' networks of h, and the shared one where there is one."""
    rows = model.table[layer]
    ready = np.zeros(3, np.int64)
    _times(h, rows[ROUTER], 0, model, work, ready, work.router, ticks, ROUTE, threads)
    chosen, weights = np.zeros(shape.experts_used, np.int64), np.zeros(shape.experts_used, np.float32)
    choose(work.router[0, : shape.experts], shape.experts_used, shape.renormalise, chosen, weights)
    for j in range(shape.experts_used):
        network = rows[GATES : DOWNS + 1]
        ready[:] = 0  # the network before overwrote the packed activation with its own
        _feed_forward(h, chosen[j], weights[j], shape.ffn, network, ready, model, work, x, ticks, threads)
    if shape.shared_ffn:
        gate = np.float32(0.0)
        for i in range(shape.d_model):
            gate += h[0, i] * model.shared_gate[layer, i]
        weight = np.float32(1.0) / (np.float32(1.0) + np.float32(np.exp(-gate)))
        network = rows[SHARED_GATE : SHARED_DOWN + 1]
        ready[:] = 0
        _feed_forward(h, 0, weight, shape.shared_ffn, network, ready, model, work, x, ticks, threads)


def _attention_block(
    x: Any, layer: int, position: int, model: Any, work: Any, shape: Any, keys: Any, values: Any, k_scale: Any, v_scale: Any,
    ticks: Any, threads: int,
) -> None:  # fmt: skip
    rows = model.table[layer]
    d, heads, kv_heads = shape.head_dim, shape.heads, shape.kv_heads
    start = cycle_counter()
    rms_norm_rows(x, model.attn_norm[layer], shape.eps, work.h, 0, 1)
    ticks[NORM] += cycle_counter() - start
    ready = np.zeros(3, np.int64)
    _times(work.h, rows[Q], 0, model, work, ready, work.q, ticks, QKV, threads)
    _times(work.h, rows[K], 0, model, work, ready, work.kk, ticks, QKV, threads)
    _times(work.h, rows[V], 0, model, work, ready, work.v, ticks, QKV, threads)
    start = cycle_counter()
    if model.q_bias.size:
        add_bias(work.q, model.q_bias[layer])
        add_bias(work.kk, model.k_bias[layer])
        add_bias(work.v, model.v_bias[layer])
    if model.q_norm.size:
        head_norm(work.q, model.q_norm[layer], heads, d, shape.eps)
        head_norm(work.kk, model.k_norm[layer], kv_heads, d, shape.eps)
    rope_rows(work.q, heads, d, position, model.cos, model.sin, shape.halves, 0, 1)
    rope_rows(work.kk, kv_heads, d, position, model.cos, model.sin, shape.halves, 0, 1)
    key = work.kk[0, : kv_heads * d].reshape(1, kv_heads, d)
    value = work.v[0, : kv_heads * d].reshape(1, kv_heads, d)
    WRITE(key, value, keys, values, k_scale, v_scale, layer, position)
    middle = cycle_counter()
    query = work.q[0, : heads * d].reshape(1, heads * d)
    factor = np.float32(1.0 / np.sqrt(d))
    ATTEND(
        query, heads, d, keys, values, k_scale, v_scale, layer, position, factor, work.scores, work.attended, threads
    )
    ticks[ROPE] += middle - start
    ticks[ATTENTION] += cycle_counter() - middle
    ready[:] = 0
    _times(work.attended, rows[PROJECTION], 0, model, work, ready, work.o, ticks, ATTN_OUT, threads)
    if model.o_bias.size:
        add_bias(work.o, model.o_bias[layer])
    add_rows(x, work.o, 0, 1)


def _decode(
    x: Any, position: int, model: Any, work: Any, shape: Any, keys: Any, values: Any, k_scale: Any, v_scale: Any, logits: Any,
    ticks: Any, threads: int,
) -> None:  # fmt: skip
    """x f32[1, d_model] (the embedding; overwritten) at `position` -> logits f32[1, padded vocabulary]."""
    layers = model.table.shape[0] - 1
    for layer in range(layers):
        BLOCK(x, layer, position, model, work, shape, keys, values, k_scale, v_scale, ticks, threads)
        start = cycle_counter()
        rms_norm_rows(x, model.ffn_norm[layer], shape.eps, work.h, 0, 1)
        ticks[NORM] += cycle_counter() - start
        if shape.experts:
            _mixture(x, layer, work.h, model, work, shape, ticks, threads)
        else:
            network = model.table[layer][GATE : DOWN + 1]
            ready = np.zeros(3, np.int64)
            _feed_forward(work.h, 0, np.float32(1.0), shape.ffn, network, ready, model, work, x, ticks, threads)
    rms_norm_rows(x, model.output_norm, shape.eps, work.h, 0, 1)
    ready = np.zeros(3, np.int64)
    _times(work.h, model.table[layers, 0], 0, model, work, ready, logits, ticks, OUTPUT, threads)


# Names the specialised copies bind: the cache's kind decides how attention reads and writes it.
WRITE: Any = None
ATTEND: Any = None
BLOCK: Any = None


def decode_kernel(kind: str) -> Any:
    """The compiled `_decode` for a KV cache kind (`f16` or `q8`)."""
    from waferline.kernels.cpu.jit import specialise

    names = {"WRITE": writer_kernel(kind), "ATTEND": attention_kernel(kind)}
    block = specialise(_attention_block, f"attention_block_{kind}", **names)
    return specialise(_decode, f"decode_{kind}", BLOCK=block)


__all__ = ["OPERATORS", "SHARED_UP", "UP", "UPS", "Model", "Packed", "Shape", "Work", "decode_kernel", "packed_for"]
