"""Cycles of distributed GEMV, c[N] = a[M] B[M, N].

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


def tile_gemv_cycles(
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
    compute = tile_gemv_cycles(p, rows, columns, batch, number_format)
    compute = compute + rows * columns * dequantize_cycles_per_weight
    words = -(-np.asarray(batch) * columns // p.elements_per_word(number_format))
    communication = allreduce_cycles(p, along, words, reduction, group)
    return GemvCycles(compute + communication, compute, communication)
