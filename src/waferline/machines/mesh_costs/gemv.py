"""Cycles of distributed GEMV, c[N] = a[M] B[M, N], and of the vector operations between two of them.

B stays where it is, one tile per core; `a` is split along the reduced axis and repeated along the other. Each core
multiplies its tile, then the partial results are all-reduced (WaferLLM section 6, MeshGEMV). Sizes may be arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from waferline.machines.mesh import MeshParameters
from waferline.machines.mesh_costs.collectives import Cycles, allreduce_cycles


@dataclass(frozen=True, slots=True)
class GemvCycles:
    """One GEMV, in cycles; nothing overlaps: `total = compute + communication`."""

    total: Cycles
    compute: Cycles
    communication: Cycles


def local_gemv_cycles(
    p: MeshParameters, rows: ArrayLike, columns: ArrayLike, batch: ArrayLike = 1, number_format: str = "fp16"
) -> Cycles:
    """A core's own product: per row of its tile and vector of the batch, one vector FMAC over the columns."""
    per_row = np.ceil(np.asarray(columns) / p.simd(number_format)) + p.gemv_row_cycles
    return np.asarray(batch) * np.asarray(rows) * per_row + p.gemv_base_cycles


def gemv_cycles(
    p: MeshParameters,
    m: ArrayLike,
    n: ArrayLike,
    width: ArrayLike,
    height: ArrayLike,
    *,
    reduction: str = "ktree:2",
    group: ArrayLike | None = None,
    batch: ArrayLike = 1,
    axis: str = "y",
    number_format: str = "fp16",
    dequantize_cycles_per_weight: float = 0.0,
) -> GemvCycles:
    """Cycles of a GEMV, or of a weight-stationary GEMM of `batch` vectors, reduced along `axis`.

    `dequantize_cycles_per_weight` is added for each weight of the tile, once per call (each tile is decoded once and
    used for the whole batch).
    """
    m, n, width, height = (np.asarray(v, np.int64) for v in (m, n, width, height))
    along, across = (height, width) if axis == "y" else (width, height)
    rows, columns = -(-m // along), -(-n // across)
    compute = local_gemv_cycles(p, rows, columns, batch, number_format)
    compute = compute + rows * columns * dequantize_cycles_per_weight
    words = -(-np.asarray(batch) * columns // p.elements_per_word(number_format))
    communication = allreduce_cycles(p, along, words, reduction, group)
    return GemvCycles(compute + communication, compute, communication)


def vector_cycles(p: MeshParameters, elements: ArrayLike, operations: float = 1, number_format: str = "fp16") -> Cycles:
    """Element-wise work on a core: `operations` passes of the SIMD unit over `elements`."""
    return operations * np.ceil(np.asarray(elements) / p.simd(number_format))


SCALAR_WORDS = 1  # a statistic travels alone in one link word
EXP_OPERATIONS = 8  # multiply-adds of a degree-7 polynomial and the scaling by a power of two (assumed)
RSQRT_OPERATIONS = 8  # a table start and Newton steps (assumed)
ROPE_OPERATIONS = 3  # two products and a sum per element: (x cos, y sin)


def rmsnorm_cycles(
    p: MeshParameters, elements: ArrayLike, cores: ArrayLike, *, rows: ArrayLike = 1, reduction: str = "ktree:2"
) -> Cycles:
    """Sum of squares of `elements` per core and row, one all-reduce along `cores` of a word per row, scale."""
    rows = np.asarray(rows)
    work = rows * (vector_cycles(p, elements, 1) + RSQRT_OPERATIONS + vector_cycles(p, elements, 2))
    return work + allreduce_cycles(p, cores, rows * SCALAR_WORDS, reduction)


def softmax_cycles(
    p: MeshParameters, elements: ArrayLike, cores: ArrayLike, *, rows: ArrayLike = 1, reduction: str = "ktree:2"
) -> Cycles:
    """Two passes with two all-reduces: the maximum, then the sum of exponentials; then the scaling."""
    rows = np.asarray(rows)
    work = rows * vector_cycles(p, elements, 1 + EXP_OPERATIONS + 1 + 1)
    return work + 2 * allreduce_cycles(p, cores, rows * SCALAR_WORDS, reduction)


def rope_cycles(p: MeshParameters, elements: ArrayLike) -> Cycles:
    """Rotary embedding of `elements` on each core; pairs lie on the same core."""
    return vector_cycles(p, elements, ROPE_OPERATIONS)
