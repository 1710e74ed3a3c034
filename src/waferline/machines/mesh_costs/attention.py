"""Cycles of one transformer layer, part by part, with grouped-query attention laid out as the simulator lays it out.

Columns of the mesh are shared out to the key/value heads; the query heads of a group work in their group's columns, so
no key or value is stored twice. (Fits to published layers are in `transformer`; here every cycle comes from a mechanism.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from waferline.machines.mesh import MeshParameters
from waferline.machines.mesh_costs.collectives import allreduce_cycles, chain_reduce_cycles, transfer_cycles
from waferline.machines.mesh_costs.gemm import gemm_cycles, local_gemm_cycles, tile_words
from waferline.machines.mesh_costs.gemv import (
    EXP_OPERATIONS,
    gemv_cycles,
    local_gemv_cycles,
    rmsnorm_cycles,
    rope_cycles,
    softmax_cycles,
    vector_cycles,
)

SILU_OPERATIONS = EXP_OPERATIONS + 3  # exponential, reciprocal step, product with the gate, product with up


@dataclass(frozen=True, slots=True)
class Part:
    """One operation of a layer: cycles computing, cycles communicating, cycles in all (less when they overlap)."""

    name: str
    compute: float
    communication: float
    total: float


@dataclass(frozen=True, slots=True)
class Widths:
    """Sizes of a Llama-style layer, in elements and heads."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int

    @property
    def query(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def key_value(self) -> int:
        """Width of K, and of V."""
        return self.kv_heads * self.head_dim

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads // self.kv_heads

    @property
    def weights(self) -> int:
        """Weights of one layer, norms included."""
        matrices = self.hidden * (2 * self.query + 2 * self.key_value + 3 * self.intermediate)
        return matrices + 2 * self.hidden


def group_columns(width: int, kv_heads: int) -> tuple[int, int]:
    """Columns each key/value head gets (a divisor of `width`), and heads each column serves in turn (1 when enough)."""
    if width < kv_heads:
        return 1, -(-kv_heads // width)
    return max(c for c in range(1, width // kv_heads + 1) if width % c == 0), 1


def prefill_parts(p: MeshParameters, w: Widths, tokens: int, width: int, height: int, number_format: str) -> list[Part]:
    """One layer over `tokens` positions: activations split by position along y and by feature along x."""
    rows = -(-tokens // height)

    def gemm(name: str, m: int, k: int, n: int, columns: int = width, times: int = 1) -> Part:
        c = gemm_cycles(p, m, k, n, columns, height, number_format=number_format)
        return Part(name, times * float(c.compute), times * float(c.communication), times * float(c.total))

    def local(name: str, cycles: float) -> Part:
        return Part(name, cycles, 0.0, cycles)

    columns, turns = group_columns(width, w.kv_heads)
    features, inner = -(-w.hidden // width), -(-w.intermediate // width)
    norm = _norm(p, features, width, rows)
    add = rows * float(vector_cycles(p, features, 1, number_format))
    softmax = float(softmax_cycles(p, -(-tokens // columns), columns, rows=rows * w.group)) * turns
    statistics = 2 * float(allreduce_cycles(p, columns, rows * w.group)) * turns
    return [
        norm,
        gemm("q projection", tokens, w.hidden, w.query),
        gemm("k projection", tokens, w.hidden, w.key_value),
        gemm("v projection", tokens, w.hidden, w.key_value),
        local("rope", rows * float(rope_cycles(p, -(-(w.query + w.key_value) // width)))),
        _scores(p, w, tokens, columns, turns, height, number_format),
        Part("softmax", softmax - statistics, statistics, softmax),
        gemm("attention output", w.group * tokens, tokens, w.head_dim, columns, turns),
        gemm("o projection", tokens, w.query, w.hidden),
        local("residual", add),
        norm,
        gemm("gate projection", tokens, w.hidden, w.intermediate),
        gemm("up projection", tokens, w.hidden, w.intermediate),
        local("silu", rows * float(vector_cycles(p, inner, SILU_OPERATIONS, number_format))),
        gemm("down projection", tokens, w.intermediate, w.hidden),
        local("residual", add),
    ]


def _norm(p: MeshParameters, features: int, cores: int, rows: int = 1) -> Part:
    total = float(rmsnorm_cycles(p, features, cores, rows=rows))
    move = float(allreduce_cycles(p, cores, rows))
    return Part("rmsnorm", total - move, move, total)


def _scores(
    p: MeshParameters, w: Widths, tokens: int, columns: int, turns: int, height: int, number_format: str
) -> Part:
    """GEMM-T of each group's stacked queries with its keys: keys move along y, sums are chained over its columns."""
    mt, nt, kt = -(-w.group * tokens // height), -(-tokens // height), -(-w.head_dim // columns)
    work = float(local_gemm_cycles(p, mt, nt, kt, number_format))
    move = float(transfer_cycles(p, tile_words(p, nt, kt, number_format), min(2, height - 1))) if height > 1 else 0.0
    sums = float(chain_reduce_cycles(p, columns, tile_words(p, mt, nt, number_format), 0))
    steps = height * turns
    return Part("scores", steps * (work + p.step_cycles), steps * (move + sums),
                steps * (max(work, move) + sums + p.step_cycles))  # fmt: skip


def decode_parts(
    p: MeshParameters,
    w: Widths,
    context: int,
    width: int,
    height: int,
    number_format: str,
    *,
    batch: int = 1,
    reduction: str = "ktree:2",
) -> list[Part]:
    """One layer for a new token of each of `batch` sequences with `context` cached tokens: ten all-reduces.
    Axes alternate (WaferLLM section 4.2): a product reduced along y lies spread over x, where the next reduces.
    """
    columns, turns = group_columns(width, w.kv_heads)
    keys, dims = -(-context // height), -(-w.head_dim // columns)
    lanes = p.elements_per_word(number_format)

    def gemv(name: str, m: int, n: int, axis: str) -> Part:
        c = gemv_cycles(
            p, m, n, width, height, reduction=reduction, batch=batch, axis=axis, number_format=number_format
        )
        return Part(name, float(c.compute), float(c.communication), float(c.total))

    def both(name: str, compute: float, communication: float) -> Part:
        return Part(name, compute, communication, compute + communication)

    def reduced(cores: int, elements: int) -> float:
        return batch * turns * float(allreduce_cycles(p, cores, -(-elements // lanes), reduction))

    per_head = batch * turns * w.group
    features = -(-w.hidden // height)
    norm = _norm(p, features, height, batch)
    add = batch * float(vector_cycles(p, features, 1, number_format))
    exponentials = per_head * float(vector_cycles(p, keys, 2 + EXP_OPERATIONS, number_format))
    inner, wide = -(-w.intermediate // width), w.query + 2 * w.key_value
    return [
        norm,
        gemv("qkv projection", w.hidden, wide, "y"),
        both("rope", batch * float(rope_cycles(p, -(-(w.query + w.key_value) // width))), 0.0),
        both("kv shift", 0.0, batch * kv_shift_cycles(p, w, width, height, number_format)),
        both(
            "scores",
            per_head * float(local_gemv_cycles(p, dims, keys, 1, number_format)),
            reduced(columns, w.group * keys),
        ),
        both("softmax", exponentials, 2 * reduced(height, w.group)),
        both(
            "attention output",
            per_head * float(local_gemv_cycles(p, keys, dims, 1, number_format)),
            reduced(height, w.group * dims),
        ),
        gemv("o projection", w.query, w.hidden, "x"),
        both("residual", add, 0.0),
        norm,
        gemv("gate and up projection", w.hidden, 2 * w.intermediate, "y"),
        both("silu", batch * float(vector_cycles(p, inner, SILU_OPERATIONS, number_format)), 0.0),
        gemv("down projection", w.intermediate, w.hidden, "x"),
        both("residual", add, 0.0),
    ]


def kv_shift_cycles(p: MeshParameters, w: Widths, width: int, height: int, number_format: str = "fp16") -> float:
    """Every row passes one token's slice of K and V to its neighbour, all at once."""
    words = tile_words(p, 2, -(-w.key_value // width), number_format)
    return float(transfer_cycles(p, words, 1)) if height > 1 else 0.0


def relayout_cycles(
    p: MeshParameters, n_bytes: float, width: int, height: int, new_width: int, new_height: int
) -> float:
    """Move `n_bytes`, spread evenly over one grid, to another that shares its corner: prefill to decode layout.

    Every column's words first travel along x to their new column, then along y. The busiest link is the grid's border:
    all that leaves crosses it, over one link per row (then per column).
    """
    words = n_bytes / p.word_bytes
    rows, columns = min(height, new_height), min(width, new_width)
    crossing_x = words * abs(1 - columns / max(width, new_width)) / rows
    crossing_y = words * abs(1 - rows / max(height, new_height)) / columns
    rates = np.array([crossing_x, crossing_y]) / p.link_words_per_cycle
    hops = max(width, new_width) + max(height, new_height) - 2
    return float(rates.sum() + p.hop_cycles * hops + 2 * (2 * p.ramp_cycles + 1))
