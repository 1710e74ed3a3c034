"""A GEMM on the mesh with real numbers: tiles per core, moved by the schedule, multiplied, gathered, compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.machines.mesh_costs.gemm import gemm_tiling
from waferline.simulate.mesh.gemm.blocks import block_schedule, core_order
from waferline.simulate.mesh.gemm.kernels import LANES, exact_kernel, half_kernel, small_kernel

MAX_HELD_BLOCKS = 20_000_000  # block numbers followed at once; about 1 GB with the copies of a step
STEPS_AT_ONCE = 48  # steps multiplied per pass over C: C is read and written once per pass

SMALL_PRODUCT = 1 << 30  # multiply-accumulates; a second's work for the kernel that is compiled once

DTYPE = {"fp32": np.float32, "fp16": np.float32, "int8": np.int32}
"""How numbers of a format are kept here; fp16 values are kept as the float32 they equal."""


def random_operands(
    m: int, k: int, n: int, number_format: str, seed: int = 0
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Operands whose product is of order one (or int8 over the whole range), rounded to the format."""
    rng = np.random.default_rng(seed)
    if number_format == "int8":
        whole = [rng.integers(-127, 128, shape, dtype=np.int32) for shape in ((m, k), (k, n))]
        return whole[0], whole[1]
    a = rng.uniform(-1, 1, (m, k)).astype(np.float32)
    b = (rng.uniform(-1, 1, (k, n)) / np.sqrt(k)).astype(np.float32)
    if number_format == "fp16":
        a, b = a.astype(np.float16).astype(np.float32), b.astype(np.float16).astype(np.float32)
    return a, b


def multiply_on_mesh(
    a: NDArray,
    b: NDArray,
    width: int,
    height: int,
    *,
    algorithm: str = "meshgemm",
    number_format: str = "fp16",
    accumulator: str = "fp32",
    block: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray:
    """A @ B as the mesh computes it: each core in its own order of K blocks (of whole `block`s), sums in `accumulator`.

    `progress` is called with (steps done, steps).

    Raises:
        InvalidInputError: shapes that do not match.
        UnsupportedError: a mesh whose lcm of sides is too large to follow block by block.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise InvalidInputError(f"A {a.shape} and B {b.shape} do not match in K", where="GEMM")
    (m, k), n = a.shape, b.shape[1]
    t = gemm_tiling(m, k, n, width, height, block)
    mt, kt, nt, steps = int(t.mt), int(t.kt), int(t.nt), int(t.steps)
    if steps * max(width, height) > MAX_HELD_BLOCKS:
        raise UnsupportedError(f"{width}x{height} needs {steps} blocks of K to follow", where="GEMM data",
                               hint="sides with a smaller common multiple, or --no-data")  # fmt: skip
    kind = DTYPE[number_format]
    padded_n = -(-nt // LANES) * LANES
    tiles_a = _padded(a, height * mt, steps * kt, kind).reshape(height, mt, steps, kt).transpose(0, 2, 1, 3).copy()
    tiles_b = np.zeros((width, steps, kt, padded_n), kind)
    tiles_b[..., :nt] = _padded(b, steps * kt, width * nt, kind).reshape(steps, kt, width, nt).transpose(2, 0, 1, 3)
    tiles_c = np.zeros((height, width, mt, padded_n), kind)
    half = accumulator == "fp16" and number_format != "int8"
    small = m * k * n < SMALL_PRODUCT
    kernel = half_kernel if half else small_kernel if small else exact_kernel(mt, kt, padded_n)
    rows, columns = core_order(algorithm, width, height)
    held_a, held_b = (np.empty((min(STEPS_AT_ONCE, steps), height, width), np.int32) for _ in "ab")
    for step, pair in enumerate(block_schedule(algorithm, width, height), 1):
        place = (step - 1) % STEPS_AT_ONCE
        held_a[place], held_b[place] = pair
        if place == STEPS_AT_ONCE - 1 or step == steps:
            kernel(tiles_a, tiles_b, tiles_c, held_a[: place + 1], held_b[: place + 1], rows, columns)
            if progress is not None:
                progress(step, steps)
    return tiles_c[..., :nt].transpose(0, 2, 1, 3).reshape(height * mt, width * nt)[:m, :n]


def _padded(matrix: NDArray, rows: int, columns: int, kind: type) -> NDArray:
    whole: NDArray = np.zeros((rows, columns), kind)
    whole[: matrix.shape[0], : matrix.shape[1]] = matrix
    return whole
