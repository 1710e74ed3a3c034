"""Many tokens at once: the same layers as `decode.py`, operator by operator, on the wide kernels."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numba import prange

from waferline.kernels.cpu import activations
from waferline.kernels.cpu.aligned import aligned_f32
from waferline.kernels.cpu.attention import KVCache, attention_kernel, writer_kernel
from waferline.kernels.cpu.elementwise import rms_norm_rows, rope_rows
from waferline.kernels.cpu.jit import jit, specialise
from waferline.kernels.cpu.matmul import GROUP_COLUMNS, PREFETCH_BYTES, Layout, layout_for, sweep_kernel
from waferline.kernels.cpu.tiles import ROWS, TILES
from waferline.kernels.runner import state
from waferline.kernels.runner.config import ModelConfig
from waferline.kernels.runner.rows import activate, add_bias, choose, finish, norm_parts
from waferline.kernels.runner.weights import (
    BLOCKS,
    DOWN,
    FORMAT,
    GATE,
    GATES,
    MATRIX_BYTES,
    OFFSET,
    PROJECTION,
    ROUTER,
    ROW_TILES,
    SHARED_GATE,
    K,
    Q,
    V,
)  # fmt: skip

_NAMES = tuple(TILES)
_EMPTY = np.empty(0, np.float32)

# Names the specialised copies bind.
SWEEP: Any = None
PACK: Any = None


def _product(
    w: Any, at: int, row_tiles: int, blocks: int, codes: Any, sums: Any, sums16: Any, scales: Any, y: Any,
    column_blocks: int, group: int, threads: int,
) -> None:  # fmt: skip
    for t in prange(threads):
        a, b = t * row_tiles // threads, (t + 1) * row_tiles // threads
        SWEEP(w, at, a, b, blocks, codes, sums, sums16, scales, y, y.shape[1], column_blocks, group, PREFETCH_BYTES)


def _pack(x: Any, n: int, column_blocks: int, codes: Any, sums: Any, sums16: Any, scales: Any, threads: int) -> None:
    for t in prange(threads):
        a, b = t * column_blocks // threads, (t + 1) * column_blocks // threads
        PACK(x, n, a, b, codes, sums, sums16, scales)


@cache
def _product_kernel(name: str, layout: Layout) -> Any:
    label = f"product_{name.lower()}_{layout.kind}_{layout.columns}"
    return specialise(_product, label, parallel=True, SWEEP=sweep_kernel(name, layout))


@cache
def _pack_kernel(kind: str) -> Any:
    return specialise(_pack, f"pack_batch_{kind}", parallel=True, PACK=activations.PACKERS[kind])


@jit(parallel=True)
def _norm(x: Any, weight: Any, eps: float, y: Any, threads: int) -> None:
    for t in prange(threads):
        rms_norm_rows(x, weight, eps, y, t * x.shape[0] // threads, (t + 1) * x.shape[0] // threads)


@jit(parallel=True)
def _rope(x: Any, heads: int, d: int, position: int, cos: Any, sin: Any, halves: bool, threads: int) -> None:
    for t in prange(threads):
        rope_rows(x, heads, d, position, cos, sin, halves, t * x.shape[0] // threads, (t + 1) * x.shape[0] // threads)


@jit(parallel=True)
def _activate(kind: int, gate: Any, up: Any, y: Any, threads: int) -> None:
    for t in prange(threads):
        for r in range(t * y.shape[0] // threads, (t + 1) * y.shape[0] // threads):
            activate(kind, gate[r, : y.shape[1]], up[r, : y.shape[1]], y[r])


@jit(parallel=True)
def _finish(x: Any, y: Any, norms: Any, layer: int, eps: float, scale: Any, threads: int) -> None:
    for t in prange(threads):
        a, b = t * x.shape[0] // threads, (t + 1) * x.shape[0] // threads
        finish(x[a:b], y[a:b], norms, layer, eps, scale)


@dataclass(slots=True)
class Batch:
    """A prefill of up to a few hundred tokens on one model. `seconds` gathers time per operator of `state.OPERATORS`."""

    config: ModelConfig
    model: state.Model
    shape: state.Shape
    cache: KVCache
    threads: int
    seconds: np.ndarray = field(default_factory=lambda: np.zeros(len(state.OPERATORS)))
    _buffers: dict[tuple[str, int, int, int], tuple[np.ndarray, ...]] = field(default_factory=dict)
    _arrays: dict[str, np.ndarray] = field(default_factory=dict)
    _input: np.ndarray | None = None
    _ready: dict[Layout, tuple[np.ndarray, ...]] = field(default_factory=dict)
    _mark: float = 0.0

    def _spent(self, operator: int) -> None:
        now = time.perf_counter()
        self.seconds[operator] += now - self._mark
        self._mark = now

    def _array(self, slot: str, rows: int, columns: int) -> np.ndarray:
        """Work memory of that name, kept from layer to layer: fresh pages cost more than what is done with them."""
        size = rows * columns
        if self._arrays.get(slot, _EMPTY).size < size:
            self._arrays[slot] = aligned_f32(1, size)[0]
        return self._arrays[slot][:size].reshape(rows, columns)

    def times(self, x: np.ndarray, row: np.ndarray, operator: int, slot: str, expert: int = 0) -> np.ndarray:
        """x f32[n, cols] @ W^T for a row of the operator table; f32[at least n, padded rows], in the work memory of
        `slot` until that is asked for again. Packs x once per layout."""
        name = _NAMES[row[FORMAT]]
        tile = TILES[name]
        layout = layout_for(tile, x.shape[0])
        n = layout.columns
        column_blocks = -(-x.shape[0] // n)
        if x is not self._input:
            self._input = x
            self._ready.clear()
        if layout not in self._ready:
            size = (layout.kind, int(row[BLOCKS]) * tile.block_k, n, column_blocks)
            if size not in self._buffers:
                self._buffers[size] = activations.buffers(*size)
            self._ready[layout] = self._buffers[size]
            _pack_kernel(layout.kind)(x, n, column_blocks, *self._ready[layout], self.threads)
            self._spent(state.QUANTISE)
        y = self._array(slot, column_blocks * n, int(row[ROW_TILES]) * ROWS)
        at, group = int(row[OFFSET] + expert * row[MATRIX_BYTES]), max(1, GROUP_COLUMNS // n)
        _product_kernel(name, layout)(
            self.model.arena,
            at,
            int(row[ROW_TILES]),
            int(row[BLOCKS]),
            *self._ready[layout],
            y,
            column_blocks,
            group,
            self.threads,
        )
        self._spent(operator)
        return y

    def run(self, x: np.ndarray) -> np.ndarray:
        """Embeddings f32[n, d_model] behind the cached tokens -> hidden states before the output norm (in place)."""
        self._mark = time.perf_counter()
        position = self.cache.tokens
        h = np.empty_like(x)
        for layer in range(self.config.layers):
            self._attention(x, h, layer, position)
            self._norm_into(x, self.model.ffn_norm, layer, h)
            if self.config.experts:
                y = self._mixture(h, layer)
            else:
                y = self._network(h, self.model.table[layer, GATE : DOWN + 1], self.config.ffn)
            self._finish(x, y, self.model.ffn_out_norm, layer)
        self.cache.tokens += x.shape[0]
        return x

    def _norm_into(self, x: np.ndarray, norms: np.ndarray, layer: int, h: np.ndarray) -> None:
        """h = norm(x), or x where the model has no norm there."""
        if norms.size:
            _norm(x, norms[layer], self.config.rms_eps, h, self.threads)
        else:
            h[:] = x
        self._input = None  # h is overwritten in place
        self._spent(state.NORM)

    def _finish(self, x: np.ndarray, y: np.ndarray, norms: np.ndarray, layer: int) -> None:
        _finish(x, y, norms, layer, self.config.rms_eps, self.shape.residual_scale, self.threads)

    def _attention(self, x: np.ndarray, h: np.ndarray, layer: int, position: int) -> None:
        c, m, n = self.config, self.model, x.shape[0]
        self._norm_into(x, m.attn_norm, layer, h)
        q, k, v = (
            self.times(h, m.table[layer, kind], state.QKV, name) for kind, name in ((Q, "q"), (K, "k"), (V, "v"))
        )
        q, k, v = (np.ascontiguousarray(a[:n, :w]) for a, w in ((q, c.q_width), (k, c.kv_width), (v, c.kv_width)))
        for a, bias in ((q, m.attn_q_bias), (k, m.attn_k_bias), (v, m.attn_v_bias)):
            if bias.size:
                add_bias(a, bias[layer])
        if m.q_norm.size:
            norm_parts(q, m.q_norm[layer], c.q_width, c.rms_eps)
            norm_parts(k, m.k_norm[layer], c.kv_width, c.rms_eps)
        local = min(c.windows[layer], 1)
        _rope(q, c.heads, c.head_dim, position, m.cos[local], m.sin[local], c.family.halves, self.threads)
        _rope(k, c.kv_heads, c.head_dim, position, m.cos[local], m.sin[local], c.family.halves, self.threads)
        cache, heads = self.cache, (n, c.kv_heads, c.head_dim)
        writer_kernel(cache.kind)(k.reshape(heads), v.reshape(heads), *cache.arrays, layer, position)
        self._spent(state.ROPE)
        out = self._array("attended", *q.shape)
        sinks = m.sinks[layer] if m.sinks.size else _EMPTY
        attention_kernel(cache.kind)(
            q, c.heads, c.head_dim, *cache.arrays, layer, position, c.windows[layer], self.shape.score_scale,
            self.shape.score_cap, sinks, cache.scratch(self.threads), out, self.threads,
        )  # fmt: skip
        self._spent(state.ATTENTION)
        o = self.times(out, m.table[layer, PROJECTION], state.ATTN_OUT, "o")
        if m.attn_output_bias.size:
            add_bias(o, m.attn_output_bias[layer])
        self._finish(x, o, m.attn_out_norm, layer)

    def _network(self, h: np.ndarray, rows: np.ndarray, width: int, layer: int = 0, expert: int = -1) -> np.ndarray:
        """down(act(gate h) * (up h)), f32[at least n, d_model or more]; `expert` -1 for a network that is none."""
        m, place = self.model, max(expert, 0)
        biased = expert >= 0 and m.ffn_gate_exps_bias.size > 0
        gate = self.times(h, rows[0], state.GATE_UP, "gate", place)
        up = self.times(h, rows[1], state.GATE_UP, "up", place)
        if biased:
            add_bias(gate, m.ffn_gate_exps_bias[layer, place])
            add_bias(up, m.ffn_up_exps_bias[layer, place])
        act = self._array("act", h.shape[0], width)
        _activate(self.shape.activation, gate, up, act, self.threads)
        self._spent(state.SWIGLU)
        y = self.times(act, rows[2], state.DOWN_OP, "down", place)
        if biased:
            add_bias(y, m.ffn_down_exps_bias[layer, place])
        return y

    def _mixture(self, h: np.ndarray, layer: int) -> np.ndarray:
        """What the experts add up to, f32[n, d_model]: each once, on the tokens that chose it."""
        c, m, rows, n = self.config, self.model, self.model.table[layer], h.shape[0]
        logits = np.ascontiguousarray(self.times(h, rows[ROUTER], state.ROUTE, "router")[:n, : c.experts])
        if m.ffn_gate_inp_bias.size:
            add_bias(logits, m.ffn_gate_inp_bias[layer])
        chosen, weights = np.empty((n, c.experts_used), np.int64), np.empty((n, c.experts_used), np.float32)
        for t in range(n):
            choose(logits[t], c.experts_used, c.family.renormalise, chosen[t], weights[t])
        self._spent(state.ROUTE)
        total = np.zeros_like(h)
        for expert in np.unique(chosen):
            tokens, slot = np.nonzero(chosen == expert)
            part = np.ascontiguousarray(h[tokens])
            y = self._network(part, rows[GATES : GATES + 3], c.expert_ffn, layer, int(expert))
            total[tokens] += weights[tokens, slot][:, None] * y[: len(tokens), : c.d_model]
        if c.shared_ffn:
            y = self._network(h, rows[SHARED_GATE : SHARED_GATE + 3], c.shared_ffn)
            gate = 1 / (1 + np.exp(-(h @ m.shared_gate[layer]))) if m.shared_gate.size else np.ones(n)
            total += gate[:, None].astype(np.float32) * y[:n, : c.d_model]
        return total
