"""Closed forms for one transformer layer on a square mesh: MeshGEMV and K-tree all-reduce, or MeshGEMM.

Every argument broadcasts. Sizes are padded up to the grid, as the released WaferLLM configurations do. The counts
(hops, software stages, multiply-accumulates, rows, words) follow from the mapping of WaferLLM (OSDI'25), sections 5 and
6; the cycles each costs come from a mesh parameter set and from `catalog/mesh_fits.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError
from waferline.machines.mesh import MeshParameters
from waferline.machines.mesh_costs.gemv import local_gemv_cycles
from waferline.machines.mesh_costs.layer_fits import DecodeFit, PrefillFit, decode_fit, prefill_fit

ALL_REDUCES = 10  # per decode layer, in the order of the released decode kernel
PREFILL_CHUNK = 8192  # prompt tokens in one pass through the layers; more would not leave room for their activations
SINGLE_VALUES = 4  # of them carry one value: two RMS statistics, softmax maximum and softmax sum

# Group counts of the released decode configurations, by grid side.
RELEASED_GROUPS: Mapping[int, int] = {
    240: 15,
    256: 16,
    300: 15,
    360: 18,
    420: 20,
    480: 20,
    512: 32,
    540: 20,
    600: 24,
    660: 22,
    720: 24,
}


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Widths of one layer, in elements; each a number or an array.

    One token runs `experts` feed-forward parts of `intermediate` and one of `shared`; `router` experts are chosen from
    (0: a dense layer).
    """

    hidden: Any
    query: Any
    key_value: Any  # of K and of V, each
    intermediate: Any
    gated: bool = True
    experts: int = 1
    router: int = 0
    shared: int = 0

    @property
    def parts(self) -> list[tuple[int, Any]]:
        """Feed-forward parts that one token runs: (how many, inner width)."""
        return [(self.experts, self.intermediate), *([(1, self.shared)] if self.shared else [])]

    @classmethod
    def released(cls, hidden: Any, intermediate: Any) -> LayerShape:
        """The layer as the released code builds it: one head as wide as the model, no grouped-query attention."""
        return cls(hidden, hidden, hidden, intermediate)


@dataclass(frozen=True, slots=True)
class DecodeCounts:
    """What one decode layer does on its critical path, before any cost is attached."""

    hops: FloatArray
    stages: FloatArray  # software receive-add-send
    macs: FloatArray  # vector multiply-accumulate issues, SIMD width taken into account
    rows: FloatArray  # of local GEMVs
    words: FloatArray  # all-reduce payload, one link


@dataclass(frozen=True, slots=True)
class LayerCycles:
    """Cycles of one layer. `compute` and `communication` add up to `total`; nothing overlaps in decode."""

    compute: FloatArray
    communication: FloatArray

    @property
    def total(self) -> FloatArray:
        return self.compute + self.communication


def tile(size: Any, grid: Any) -> FloatArray:
    """Elements of a dimension that one core holds, padded up."""
    return np.ceil(np.asarray(size, dtype=np.float64) / grid)


def tree_stages(grid: Any, groups: Any) -> FloatArray:
    """Software stages of a two-phase all-reduce with roots in the middle: g/2 inside a group, G/2 over the groups."""
    groups = np.asarray(groups, dtype=np.float64)
    return (np.ceil(grid / groups) + groups) / 2


def balanced_groups(grid: Any) -> FloatArray:
    """The group count with the fewest software stages in a two-phase tree: √P, rounded the better way."""
    root = np.sqrt(np.asarray(grid, dtype=np.float64))
    low, high = np.maximum(np.floor(root), 1.0), np.ceil(root)
    return np.where(tree_stages(grid, low) <= tree_stages(grid, high), low, high)


def best_stages(grid: Any, levels: int) -> FloatArray:
    """Software stages of the best K-tree with `levels` = K: about K P^(1/K) / 2.

    Raises: InvalidInputError for K outside 1 to 3, which is all the mapping provides for.
    """
    grid = np.asarray(grid, dtype=np.float64)
    if levels == 1:
        return np.ceil(grid / 2)
    if levels == 2:
        return tree_stages(grid, balanced_groups(grid))
    if levels == 3:
        first = np.maximum(np.rint(np.cbrt(grid)), 1.0)
        rest = np.ceil(grid / first)
        return first / 2 + tree_stages(rest, balanced_groups(rest))
    raise InvalidInputError(f"a tree of {levels} levels", where="levels", hint="1 (chain), 2 or 3")


def decode_counts(
    shape: LayerShape, grid: Any, stages: Any, context: Any, batch: Any, parameters: MeshParameters, number_format: str
) -> DecodeCounts:
    """Counts of one decode step of one layer on a `grid` × `grid` region, `stages` software stages per all-reduce.

    `context` is the number of cached tokens per sequence. Weights stay; each of `batch` tokens is a GEMV of its own.
    """
    simd, per_word = parameters.simd(number_format), parameters.elements_per_word(number_format)
    grid = np.asarray(grid, dtype=np.float64)
    d, q, kv, s = (tile(x, grid) for x in (shape.hidden, shape.query, shape.key_value, context))
    vd, vq, vkv, vs = (np.ceil(x / simd) for x in (d, q, kv, s))
    macs = d * (vq + 2 * vkv) + q * (vd + vs) + s * vq
    rows = 3 * d + 2 * q + s
    payload = SINGLE_VALUES + q + 2 * kv + s + q + d + d
    ups = 2 if shape.gated else 1
    for count, width in shape.parts:
        f = tile(width, grid)
        macs = macs + count * (ups * d * np.ceil(f / simd) + f * vd)
        rows = rows + count * (ups * d + f)
        payload = payload + count * ups * f
    if shape.router:
        r = tile(shape.router, grid)
        macs, rows, payload = macs + d * np.ceil(r / simd), rows + d, payload + r
    return DecodeCounts(
        hops=ALL_REDUCES * grid,
        stages=ALL_REDUCES * np.asarray(stages, dtype=np.float64),
        macs=batch * macs,
        rows=batch * rows,
        words=batch * payload / per_word,
    )


def decode_layer(
    shape: LayerShape,
    grid: Any,
    groups: Any,
    context: Any,
    batch: Any = 1,
    *,
    parameters: MeshParameters,
    number_format: str = "fp16",
    stages: Any = None,
    fit: DecodeFit | None = None,
) -> LayerCycles:
    """Cycles of one decode step of one layer; `groups` is G of the two-phase tree; `stages` overrides it."""
    fit = fit or decode_fit(parameters.name)
    stages = tree_stages(np.asarray(grid, dtype=np.float64), groups) if stages is None else stages
    n = decode_counts(shape, grid, stages, context, batch, parameters, number_format)
    return LayerCycles(
        compute=n.macs + fit.row_cycles * n.rows + fit.layer_cycles,
        communication=parameters.hop_cycles * n.hops
        + parameters.stage_cycles * n.stages
        + n.words / parameters.link_words_per_cycle,
    )


def lone_gemv_cycles(parameters: MeshParameters, rows: Any, columns: Any, grid: Any, groups: Any) -> FloatArray:
    """Cycles of one fp16 MeshGEMV, a[rows] B[rows, columns], its all-reduce counted as a decode layer counts its ten.

    The fitted stage cost holds for this count (hops, stages, one payload); the router-level form of `gemv_cycles` adds
    ramps and a payload per phase on top of it.
    """
    p, side = parameters, np.asarray(grid, dtype=np.float64)
    width = tile(columns, side)
    local = local_gemv_cycles(p, tile(rows, side), width)
    words = width / p.elements_per_word("fp16") / p.link_words_per_cycle
    return np.asarray(p.hop_cycles * side + p.stage_cycles * tree_stages(side, groups) + words + local)


def prefill_gemms(shape: LayerShape, tokens: Any, batch: Any) -> list[tuple[Any, Any, Any, Any]]:
    """The GEMMs of one prefill layer as (count, M, K, N); scores and values per sequence, nothing saved by the mask.

    Rows beyond `PREFILL_CHUNK` go in further passes. Routed experts take equal shares of a pass's tokens.
    """
    tokens = np.asarray(tokens, dtype=np.float64)
    gemms: list[tuple[Any, Any, Any, Any]] = []
    for passes, rows in _passes(tokens * batch):
        gemms += [(passes * count, m, k, n) for count, m, k, n in _weight_gemms(shape, rows)]
    for passes, rows in _passes(tokens):
        gemms.append((passes * batch, rows, shape.query, tokens))
        gemms.append((passes * batch, rows, tokens, shape.query))
    return gemms


def _passes(rows: FloatArray) -> list[tuple[Any, FloatArray]]:
    """`rows` as full chunks and a rest: (how many, rows of each)."""
    if np.max(rows) <= PREFILL_CHUNK:
        return [(1, rows)]
    full = np.floor(rows / PREFILL_CHUNK)
    rest = rows - full * PREFILL_CHUNK
    return [(full, np.where(full > 0, float(PREFILL_CHUNK), 0.0)), (rest > 0, rest)]


def _weight_gemms(shape: LayerShape, rows: FloatArray) -> list[tuple[Any, Any, Any, Any]]:
    ups = 2 if shape.gated else 1
    gemms: list[tuple[Any, Any, Any, Any]] = [
        (1, rows, shape.hidden, shape.query),
        (2, rows, shape.hidden, shape.key_value),
        (1, rows, shape.query, shape.hidden),
    ]
    for part, (count, width) in enumerate(shape.parts):
        copies, share = count, rows
        if shape.router and part == 0:  # the shared experts, if any, come second and take every token
            copies, share = shape.router, rows * count / shape.router
        gemms.append((ups * copies, share, shape.hidden, width))
        gemms.append((copies, share, width, shape.hidden))
    if shape.router:
        gemms.append((1, rows, shape.hidden, shape.router))
    return gemms


def prefill_layer(
    shape: LayerShape,
    grid: Any,
    tokens: Any,
    batch: Any = 1,
    *,
    parameters: MeshParameters,
    number_format: str = "fp16",
) -> LayerCycles:
    """Cycles of the prefill of one layer: P steps per GEMM, each the slower of local product and two-hop shift.

    Where a cohort has no measured prefill, the vector unit is taken as ideal and the result is a lower bound.
    """
    ideal = parameters.map_vector_cycles / parameters.simd(number_format)
    fit = prefill_fit(parameters.name) or PrefillFit(parameters.map_base_cycles, ideal, parameters.step_cycles)
    grid = np.asarray(grid, dtype=np.float64)
    words = parameters.elements_per_word(number_format) * parameters.link_words_per_cycle
    compute: FloatArray = np.asarray(0.0)
    exposed: FloatArray = np.asarray(0.0)
    for count, m, k, n in prefill_gemms(shape, tokens, batch):
        mt, kt, nt = tile(m, grid), tile(k, grid), tile(n, grid)
        local = kt * nt * (fit.map_base_cycles + fit.map_element_cycles * mt)
        shift = 2 * parameters.hop_cycles + np.maximum(mt, nt) * kt / words
        compute = compute + count * grid * local
        exposed = exposed + count * grid * (fit.step_cycles + np.maximum(shift - local, 0.0))
    return LayerCycles(compute, exposed)
