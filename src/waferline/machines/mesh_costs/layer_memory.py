"""SRAM that one transformer layer takes of a core: weight tiles, padded up, and the buffers of a pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.machines.mesh_costs.transformer import PREFILL_CHUNK, LayerShape, prefill_gemms, tile


def tile_bytes(matrices: list[tuple[float, Any, Any]], grid: Any, bytes_per_element: float) -> FloatArray:
    """SRAM bytes per core of matrices (count, rows, columns) cut over both axes of the grid, each tile padded up."""
    total: FloatArray = np.zeros(())
    for count, rows, columns in matrices:
        total = total + count * tile(rows, grid) * tile(columns, grid) * bytes_per_element
    return total


def layer_matrices(shape: LayerShape) -> list[tuple[float, Any, Any]]:
    """The weight matrices of one layer as (count, rows, columns); every expert is kept."""
    each = 3 if shape.gated else 2
    stored = shape.router or shape.experts
    return [
        (1, shape.hidden, shape.query),
        (2, shape.hidden, shape.key_value),
        (1, shape.query, shape.hidden),
        (each * stored, shape.hidden, shape.intermediate),
        (each, shape.hidden, shape.shared),
        (1, shape.hidden, shape.router),
    ]


def prefill_buffer_elements(shape: LayerShape, grid: Any, tokens: Any, batch: Any) -> FloatArray:
    """Elements per core of the largest GEMM's double buffers and result, and of residual and attention activations."""
    largest: FloatArray = np.zeros(())
    for _, m, k, n in prefill_gemms(shape, tokens, batch):
        mt, kt, nt = tile(m, grid), tile(k, grid), tile(n, grid)
        # Of the two buffers of B, one is the resident tile itself (weights, or keys and values).
        largest = np.maximum(largest, 2 * mt * kt + kt * nt + mt * nt)
    rows = tile(np.minimum(np.asarray(tokens, dtype=np.float64) * batch, PREFILL_CHUNK), grid)
    return largest + rows * (tile(shape.hidden, grid) + tile(shape.query, grid))


def decode_buffer_elements(shape: LayerShape, grid: Any, context: Any, batch: Any) -> FloatArray:
    """Elements per core of the activations of one decode step, each held twice (sum and received)."""
    f = np.maximum(tile(shape.intermediate, grid), tile(shape.shared, grid)) * (2 if shape.gated else 1) * shape.experts
    wide = tile(shape.query, grid) + 2 * tile(shape.key_value, grid) + tile(context, grid)
    return 2 * batch * (2 * tile(shape.hidden, grid) + np.maximum(wide, f))
