"""One token through the whole model inside one compiled function: no Python between the first norm and the logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from waferline.kernels.cpu.activations import buffers, pack_f32, pack_q8_0, pack_q8_k
from waferline.kernels.cpu.attention import attention_kernel, writer_kernel
from waferline.kernels.cpu.elementwise import add_rows, clamped_row, geglu_row, rms_norm_rows, rope_rows, swiglu_row
from waferline.kernels.cpu.jit import jit, specialise
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

# Layouts of a packed activation, in the order of `Work.packed`.
LAYOUTS = ("q8_k", "q8_0", "f32")
_Q8K_FORMATS = tuple(CODES[t.name] for t in TILES.values() if t.activation == "q8_k")
_Q80_FORMATS = tuple(CODES[t.name] for t in TILES.values() if t.activation == "q8_0")


class Packed(NamedTuple):
    """One activation vector in one layout (see `cpu.activations`)."""

    codes: np.ndarray
    sums: np.ndarray
    sums16: np.ndarray
    scales: np.ndarray


class Work(NamedTuple):
    """Work arrays of a decode step; rows are padded to whole tiles."""

    packed: tuple[Packed, Packed, Packed]  # the activation in each of `LAYOUTS`
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
    sum: np.ndarray  # f32[1, d_model] what the networks of a layer add up to
    scores: np.ndarray  # f32[threads, 4, more than slots]


class Model(NamedTuple):
    """What a decode step reads: vectors by layer, empty where the model has none."""

    arena: np.ndarray
    table: np.ndarray
    attn_norm: np.ndarray
    attn_out_norm: np.ndarray
    ffn_norm: np.ndarray
    ffn_out_norm: np.ndarray
    q_norm: np.ndarray
    k_norm: np.ndarray
    attn_q_bias: np.ndarray
    attn_k_bias: np.ndarray
    attn_v_bias: np.ndarray
    attn_output_bias: np.ndarray
    ffn_gate_inp_bias: np.ndarray
    ffn_gate_exps_bias: np.ndarray
    ffn_up_exps_bias: np.ndarray
    ffn_down_exps_bias: np.ndarray
    sinks: np.ndarray
    shared_gate: np.ndarray
    output_norm: np.ndarray
    windows: np.ndarray  # i64[layers], 0 for all
    cos: np.ndarray  # f32[2, slots, pairs]: for layers that see everything, and for those with a window
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
    activation: int  # of `ACTIVATIONS`
    eps: float
    score_scale: np.float32
    score_cap: np.float32
    residual_scale: np.float32


class Cache(NamedTuple):
    """The arrays of a `KVCache`."""

    keys: np.ndarray
    values: np.ndarray
    k_scale: np.ndarray
    v_scale: np.ndarray


ACTIVATIONS = ("silu", "gelu", "clamped")
_GELU, _CLAMPED = 1, 2


def packed_for(kind: str, width: int) -> Packed:
    """Buffers for one vector of up to `width` elements."""
    block = {"q8_k": 256, "q8_0": 64, "f32": 32}[kind]
    return Packed(*buffers(kind, -(-width // block) * block, 1, 1))


def _sweep(fmt: int, w: Any, at: int, first: int, last: int, blocks: int, k: Any, z: Any, f: Any, y: Any) -> None:
    """Row tiles first ... last-1 of one matrix: with this link's kernel if that is its format's, else with the next link's."""
    if fmt == CODE:
        p = (k, z, f)[LAYOUT]
        SWEEP(w, at, first, last, blocks, p.codes, p.sums, p.sums16, p.scales, y, y.shape[1], 1, 1, PREFETCH_BYTES)
    else:
        NEXT(fmt, w, at, first, last, blocks, k, z, f, y)


@jit
def _no_sweep(fmt: int, w: Any, at: int, first: int, last: int, blocks: int, k: Any, z: Any, f: Any, y: Any) -> None:
    """The end of the chain: every format of `TILES` is before it."""


def _product(
    fmt: int, w: Any, at: int, row_tiles: int, blocks: int, k: Any, z: Any, f: Any, y: Any, threads: int
) -> None:
    """y[0] = one matrix times the packed activation of its kind, row tiles shared by the threads."""
    for t in prange(threads):
        NEXT(fmt, w, at, t * row_tiles // threads, (t + 1) * row_tiles // threads, blocks, k, z, f, y)


# Names that the copies below and those of `decode_kernel` bind; the cache's kind decides how attention reads and writes it.
CODE, LAYOUT = 0, 0
SWEEP: Any = None
NEXT: Any = None
WRITE: Any = None
ATTEND: Any = None
BLOCK: Any = None


def _chain() -> Any:
    """`_product` over a chain of one `_sweep` a format, the most usual first."""
    link: Any = _no_sweep
    for tile in reversed(TILES.values()):
        kernel = sweep_kernel(tile.name, layout_for(tile, 1))
        layout = LAYOUTS.index(tile.activation)
        name = f"sweep_{tile.name.lower()}_or_next"
        link = specialise(_sweep, name, CODE=CODES[tile.name], LAYOUT=layout, SWEEP=kernel, NEXT=link)
    return specialise(_product, "product_of_any", parallel=True, NEXT=link)


_product_of_any = _chain()


@jit
def _pack(x: Any, fmt: int, packed: Any, ready: Any) -> None:
    """Pack x f32[1, width] for a format unless `ready` says it is; `ready` is cleared when x changes."""
    k, z, f = packed
    if fmt in _Q8K_FORMATS:
        if not ready[0]:
            pack_q8_k(x, 1, 0, 1, k.codes, k.sums, k.sums16, k.scales)
        ready[0] = 1
    elif fmt in _Q80_FORMATS:
        if not ready[1]:
            pack_q8_0(x, 1, 0, 1, z.codes, z.sums, z.sums16, z.scales)
        ready[1] = 1
    else:
        if not ready[2]:
            width = (x.shape[1] + 31) // 32 * 32
            pack_f32(x, 1, 0, 1, f.codes[:width], f.sums, f.sums16, f.scales)
        ready[2] = 1


@jit
def _times(
    x: Any, row: Any, expert: int, arena: Any, packed: Any, ready: Any, y: Any, ticks: Any, op: int, threads: int
) -> None:
    """y = W x for the matrix of a table row (the `expert`-th of its kind)."""
    start = cycle_counter()
    _pack(x, row[FORMAT], packed, ready)
    middle = cycle_counter()
    at = row[OFFSET] + expert * row[MATRIX_BYTES]
    k, z, f = packed
    _product_of_any(row[FORMAT], arena, at, row[ROW_TILES], row[BLOCKS], k, z, f, y, threads)
    ticks[QUANTISE] += middle - start
    ticks[op] += cycle_counter() - middle


@jit
def norm_parts(x: Any, weight: Any, width: int, eps: float) -> None:
    """RMSNorm in place of x[:, :width] in parts as long as `weight`: each head, or all together. x f32[n, width or more]."""
    parts = width // weight.size
    for r in range(x.shape[0]):
        rows = x[r, :width].reshape(parts, weight.size)
        rms_norm_rows(rows, weight, eps, rows, 0, parts)


@jit
def add_bias(x: Any, bias: Any) -> None:
    """x[:, :n] += bias f32[n]."""
    for r in range(x.shape[0]):
        for i in range(bias.size):
            x[r, i] += bias[i]


@jit
def finish(x: Any, y: Any, norms: Any, layer: int, eps: float, scale: Any) -> None:
    """x += scale * norm(y), rows as long as x's; y is overwritten, `norms` may be empty."""
    if norms.size:
        norm_parts(y, norms[layer], x.shape[1], eps)
    if scale != 1:
        for r in range(x.shape[0]):
            for i in range(x.shape[1]):
                y[r, i] *= scale
    add_rows(x, y, 0, x.shape[0])


@jit
def activate(kind: int, gate: Any, up: Any, y: Any) -> None:
    """What a network does between its matrices, for one row."""
    if kind == _GELU:
        geglu_row(gate, up, y)
    elif kind == _CLAMPED:
        clamped_row(gate, up, y)
    else:
        swiglu_row(gate, up, y)


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
    x: Any, layer: int, expert: int, weight: float, width: int, rows: Any, ready: Any, model: Any, work: Any, shape: Any,
    out: Any, ticks: Any, threads: int,
) -> None:  # fmt: skip
    """out += weight * down(act(gate x) * (up x)) for the three table rows of one network; `expert` -1 for one that is none."""
    biased = expert >= 0 and model.ffn_gate_exps_bias.size
    place = max(expert, 0)
    _times(x, rows[0], place, model.arena, work.packed, ready, work.gate, ticks, GATE_UP, threads)
    _times(x, rows[1], place, model.arena, work.packed, ready, work.up, ticks, GATE_UP, threads)
    start = cycle_counter()
    if biased:
        add_bias(work.gate, model.ffn_gate_exps_bias[layer, place])
        add_bias(work.up, model.ffn_up_exps_bias[layer, place])
    act = work.act[0, :width]
    activate(shape.activation, work.gate[0, :width], work.up[0, :width], act)
    ticks[SWIGLU] += cycle_counter() - start
    _times(
        act.reshape(1, width),
        rows[2],
        place,
        model.arena,
        work.packed,
        np.zeros(3, np.int64),
        work.o,
        ticks,
        DOWN_OP,
        threads,
    )
    if biased:
        add_bias(work.o, model.ffn_down_exps_bias[layer, place])
    for i in range(out.shape[1]):
        out[0, i] += np.float32(weight) * work.o[0, i]


@jit
def _mixture(x: Any, layer: int, h: Any, model: Any, work: Any, shape: Any, ticks: Any, threads: int) -> None:
    """x += the chosen experts' networks of h, and the shared one where there is one."""
    rows = model.table[layer]
    ready = np.zeros(3, np.int64)
    _times(h, rows[ROUTER], 0, model.arena, work.packed, ready, work.router, ticks, ROUTE, threads)
    if model.ffn_gate_inp_bias.size:
        add_bias(work.router, model.ffn_gate_inp_bias[layer])
    chosen, weights = np.zeros(shape.experts_used, np.int64), np.zeros(shape.experts_used, np.float32)
    choose(work.router[0, : shape.experts], shape.experts_used, shape.renormalise, chosen, weights)
    for j in range(shape.experts_used):
        network = rows[GATES : DOWNS + 1]
        ready[:] = 0  # the network before overwrote the packed activation with its own
        _feed_forward(h, layer, chosen[j], weights[j], shape.ffn, network, ready, model, work, shape, x, ticks, threads)
    if shape.shared_ffn:
        weight = np.float32(1.0)
        if model.shared_gate.size:
            gate = np.float32(0.0)
            for i in range(shape.d_model):
                gate += h[0, i] * model.shared_gate[layer, i]
            weight = np.float32(1.0) / (np.float32(1.0) + np.float32(np.exp(-gate)))
        network = rows[SHARED_GATE : SHARED_DOWN + 1]
        ready[:] = 0
        _feed_forward(h, layer, -1, weight, shape.shared_ffn, network, ready, model, work, shape, x, ticks, threads)


@jit
def _input_norm(x: Any, norms: Any, layer: int, eps: float, h: Any, ticks: Any) -> None:
    """h = norm(x), or x where the model has no norm there."""
    start = cycle_counter()
    if norms.size:
        rms_norm_rows(x, norms[layer], eps, h, 0, 1)
    else:
        h[:] = x
    ticks[NORM] += cycle_counter() - start


def _attention_block(
    x: Any, layer: int, position: int, model: Any, work: Any, shape: Any, cache: Any, ticks: Any, threads: int
) -> None:
    rows = model.table[layer]
    d, heads, kv_heads = shape.head_dim, shape.heads, shape.kv_heads
    _input_norm(x, model.attn_norm, layer, shape.eps, work.h, ticks)
    ready = np.zeros(3, np.int64)
    _times(work.h, rows[Q], 0, model.arena, work.packed, ready, work.q, ticks, QKV, threads)
    _times(work.h, rows[K], 0, model.arena, work.packed, ready, work.kk, ticks, QKV, threads)
    _times(work.h, rows[V], 0, model.arena, work.packed, ready, work.v, ticks, QKV, threads)
    start = cycle_counter()
    if model.attn_q_bias.size:
        add_bias(work.q, model.attn_q_bias[layer])
        add_bias(work.kk, model.attn_k_bias[layer])
        add_bias(work.v, model.attn_v_bias[layer])
    if model.q_norm.size:
        norm_parts(work.q, model.q_norm[layer], heads * d, shape.eps)
        norm_parts(work.kk, model.k_norm[layer], kv_heads * d, shape.eps)
    window = model.windows[layer]
    cos, sin = model.cos[min(window, 1)], model.sin[min(window, 1)]
    rope_rows(work.q, heads, d, position, cos, sin, shape.halves, 0, 1)
    rope_rows(work.kk, kv_heads, d, position, cos, sin, shape.halves, 0, 1)
    key = work.kk[0, : kv_heads * d].reshape(1, kv_heads, d)
    value = work.v[0, : kv_heads * d].reshape(1, kv_heads, d)
    WRITE(key, value, cache.keys, cache.values, cache.k_scale, cache.v_scale, layer, position)
    middle = cycle_counter()
    query = work.q[0, : heads * d].reshape(1, heads * d)
    sinks = model.sinks[layer] if model.sinks.size else np.zeros(0, np.float32)
    ATTEND(
        query, heads, d, cache.keys, cache.values, cache.k_scale, cache.v_scale, layer, position, window, shape.score_scale,
        shape.score_cap, sinks, work.scores, work.attended, threads,
    )  # fmt: skip
    ticks[ROPE] += middle - start
    ticks[ATTENTION] += cycle_counter() - middle
    ready[:] = 0
    _times(work.attended, rows[PROJECTION], 0, model.arena, work.packed, ready, work.o, ticks, ATTN_OUT, threads)
    if model.attn_output_bias.size:
        add_bias(work.o, model.attn_output_bias[layer])
    finish(x, work.o, model.attn_out_norm, layer, shape.eps, shape.residual_scale)


def _decode(
    x: Any, position: int, model: Any, work: Any, shape: Any, cache: Any, logits: Any, ticks: Any, threads: int
) -> None:
    """x f32[1, d_model] (the embedding; overwritten) at `position` -> logits f32[1, padded vocabulary]."""
    layers = model.table.shape[0] - 1
    plain = model.ffn_out_norm.size == 0 and shape.residual_scale == 1  # networks may add to x themselves
    for layer in range(layers):
        BLOCK(x, layer, position, model, work, shape, cache, ticks, threads)
        _input_norm(x, model.ffn_norm, layer, shape.eps, work.h, ticks)
        out = x if plain else work.sum
        if not plain:
            out[:] = 0
        if shape.experts:
            _mixture(out, layer, work.h, model, work, shape, ticks, threads)
        else:
            network = model.table[layer][GATE : DOWN + 1]
            ready = np.zeros(3, np.int64)
            _feed_forward(
                work.h, layer, -1, np.float32(1.0), shape.ffn, network, ready, model, work, shape, out, ticks, threads
            )
        if not plain:
            finish(x, out, model.ffn_out_norm, layer, shape.eps, shape.residual_scale)
    rms_norm_rows(x, model.output_norm, shape.eps, work.h, 0, 1)
    ready = np.zeros(3, np.int64)
    _times(work.h, model.table[layers, 0], 0, model.arena, work.packed, ready, logits, ticks, OUTPUT, threads)


def decode_kernel(kind: str) -> Any:
    """The compiled `_decode` for a KV cache kind (`f16` or `q8`)."""
    names = {"WRITE": writer_kernel(kind), "ATTEND": attention_kernel(kind)}
    block = specialise(_attention_block, f"attention_block_{kind}", **names)
    return specialise(_decode, f"decode_{kind}", BLOCK=block)
