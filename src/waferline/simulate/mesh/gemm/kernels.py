"""Every core's tile product at once: the arithmetic of the mesh, in Numba over cores."""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from waferline.simulate.mesh.engine.receive import rounded

LANES = 8  # floats in one 256-bit register: rows of B are padded to it
NEIGHBOURS = 16  # cores worked on together per side: ring neighbours use the same blocks, which stay in cache


@cache
def exact_kernel(mt: int, kt: int, padded: int) -> Any:
    """The kernel for tiles of this size, sums held in the accumulator's own type (float32, or int32 for int8 data).

    Tile sizes are compile-time constants so that the inner loop becomes straight vector code.
    """

    @numba.njit(parallel=True, fastmath={"contract"})
    def multiply(
        a: NDArray, b: NDArray, c: NDArray, a_block: NDArray, b_block: NDArray, rows: NDArray, columns: NDArray
    ) -> None:
        """c[y, x] += sum over steps s of a[y, a_block[s, y, x]] @ b[x, b_block[s, y, x]], cores in the order given."""
        steps, height, width = a_block.shape
        across = (width + NEIGHBOURS - 1) // NEIGHBOURS
        down = (height + NEIGHBOURS - 1) // NEIGHBOURS
        for part in numba.prange(down * across):
            sums = np.empty((mt, padded), c.dtype)
            first_y, first_x = part // across * NEIGHBOURS, part % across * NEIGHBOURS
            for y in rows[first_y : first_y + NEIGHBOURS]:
                for x in columns[first_x : first_x + NEIGHBOURS]:
                    sums[:] = c[y, x]
                    for s in range(steps):
                        left, right = a[y, a_block[s, y, x]], b[x, b_block[s, y, x]]
                        for m in range(mt):
                            for n in range(padded):
                                total = sums[m, n]
                                for k in range(kt):
                                    total += left[m, k] * right[k, n]
                                sums[m, n] = total
                    c[y, x] = sums

    return multiply


@numba.njit(cache=True)
def small_kernel(
    a: NDArray, b: NDArray, c: NDArray, a_block: NDArray, b_block: NDArray, rows: NDArray, columns: NDArray
) -> None:
    """The same for tiles of any size, compiled once: for products too small to be worth a kernel of their own."""
    for y in rows:
        for x in columns:
            tile = c[y, x]
            for s in range(a_block.shape[0]):
                left, right = a[y, a_block[s, y, x]], b[x, b_block[s, y, x]]
                for k in range(left.shape[1]):
                    for m in range(left.shape[0]):
                        for n in range(right.shape[1]):
                            tile[m, n] += left[m, k] * right[k, n]


@numba.njit(cache=True)
def half_kernel(
    a: NDArray, b: NDArray, c: NDArray, a_block: NDArray, b_block: NDArray, rows: NDArray, columns: NDArray
) -> None:
    """The same with every sum rounded to fp16, as a core that accumulates in fp16 stores it."""
    steps = a_block.shape[0]
    for y in rows:
        for x in columns:
            tile = c[y, x]
            for s in range(steps):
                left, right = a[y, a_block[s, y, x]], b[x, b_block[s, y, x]]
                for k in range(left.shape[1]):
                    for m in range(left.shape[0]):
                        for n in range(right.shape[1]):
                            tile[m, n] = np.float32(rounded(np.float64(tile[m, n]) + left[m, k] * right[k, n], 1))
