"""Compile ahead of a measurement."""

from __future__ import annotations

import time

import numpy as np

from waferline.kernels.cpu.matmul import matmul
from waferline.kernels.cpu.packed import pack, row_bytes
from waferline.kernels.cpu.tiles import tile_of


def warm_up(formats: tuple[str, ...] = ("Q4_K",), batches: tuple[int, ...] = (1,), *, exact: bool = False) -> float:
    """Compile the matrix kernels of these formats and batch sizes, or load them from the disk cache; seconds it took.

    Measurements call this first, so that no timing contains compilation.
    """
    start = time.perf_counter()
    for name in formats:
        tile = tile_of(name)
        data = np.zeros(row_bytes(tile, tile.block_k), np.uint8)
        packed = pack(data, tile.name, (1, tile.block_k))
        for batch in batches:
            matmul(packed, np.zeros((batch, tile.block_k), np.float32), exact=exact)
    return time.perf_counter() - start
