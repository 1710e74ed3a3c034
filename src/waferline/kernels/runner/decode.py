"""One token through the whole model inside one compiled function: no Python between the first norm and the logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from waferline.kernels.cpu.attention import attention_kernel, writer_kernel
from waferline.kernels.cpu.elementwise import rms_norm_rows, rope_rows
from waferline.kernels.cpu.jit import jit, specialise
from waferline.kernels.cpu.simd import cycle_counter
from waferline.kernels.runner.product import times
from waferline.kernels.runner.rows import activate, add_bias, choose, finish, norm_parts
from waferline.kernels.runner.state import ATTENTION, ATTN_OUT, DOWN_OP, GATE_UP, NORM, OUTPUT, QKV, ROPE, ROUTE, SWIGLU
from waferline.kernels.runner.weights import (
    DOWN,
    DOWNS,
    GATE,
    GATES,
    PROJECTION,
    ROUTER,
    SHARED_DOWN,
    SHARED_GATE,
    K,
    Q,
    V,
)  # fmt: skip

# Names that the copies of `decode_kernel` bind: the cache's kind decides how attention reads and writes it.
WRITE: Any = None
ATTEND: Any = None
BLOCK: Any = None


@jit
def _feed_forward(
    x: Any, layer: int, expert: int, weight: float, width: int, rows: Any, ready: Any, model: Any, work: Any, shape: Any,
    out: Any, ticks: Any, threads: int,
) -> None:  # fmt: skip
    """out += weight * down(act(gate x) * (up x)) for the three table rows of one network; `expert` -1 for one that is none."""
    biased = expert >= 0 and model.ffn_gate_exps_bias.size
    place = max(expert, 0)
    times(x, rows[0], place, model.arena, work.packed, ready, work.gate, ticks, GATE_UP, threads)
    times(x, rows[1], place, model.arena, work.packed, ready, work.up, ticks, GATE_UP, threads)
    start = cycle_counter()
    if biased:
        add_bias(work.gate, model.ffn_gate_exps_bias[layer, place])
        add_bias(work.up, model.ffn_up_exps_bias[layer, place])
    act = work.act[0, :width]
    activate(shape.activation, work.gate[0, :width], work.up[0, :width], act)
    ticks[SWIGLU] += cycle_counter() - start
    down = act.reshape(1, width)
    times(down, rows[2], place, model.arena, work.packed, np.zeros(3, np.int64), work.o, ticks, DOWN_OP, threads)
    if biased:
        add_bias(work.o, model.ffn_down_exps_bias[layer, place])
    for i in range(out.shape[1]):
        out[0, i] += np.float32(weight) * work.o[0, i]


@jit
def _mixture(x: Any, layer: int, h: Any, model: Any, work: Any, shape: Any, ticks: Any, threads: int) -> None:
    """x += the chosen experts' networks of h, and the shared one where there is one."""
    rows = model.table[layer]
    ready = np.zeros(3, np.int64)
    times(h, rows[ROUTER], 0, model.arena, work.packed, ready, work.router, ticks, ROUTE, threads)
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
    times(work.h, rows[Q], 0, model.arena, work.packed, ready, work.q, ticks, QKV, threads)
    times(work.h, rows[K], 0, model.arena, work.packed, ready, work.kk, ticks, QKV, threads)
    times(work.h, rows[V], 0, model.arena, work.packed, ready, work.v, ticks, QKV, threads)
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
    times(work.attended, rows[PROJECTION], 0, model.arena, work.packed, ready, work.o, ticks, ATTN_OUT, threads)
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
    times(work.h, model.table[layers, 0], 0, model.arena, work.packed, ready, logits, ticks, OUTPUT, threads)


def decode_kernel(kind: str) -> Any:
    """The compiled `_decode` for a KV cache kind (`f16` or `q8`)."""
    names = {"WRITE": writer_kernel(kind), "ATTEND": attention_kernel(kind)}
    block = specialise(_attention_block, f"attention_block_{kind}", **names)
    return specialise(_decode, f"decode_{kind}", BLOCK=block)
