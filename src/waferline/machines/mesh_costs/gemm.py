"""Cycles of distributed GEMM on a `width` x `height` mesh, C[M, N] = A[M, K] B[K, N], step by step and in closed form.

M is split over the mesh's rows, N over its columns, K into lcm(width, height) blocks (WaferLLM section 5; the lcm makes
meshes that are not square work). A step moves one block of A and one of B and multiplies one pair. Steps are counted
as the paper does, in lock step: a step lasts as long as its slowest core. Every size may be a scalar or an array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from waferline.arrays import IntArray
from waferline.errors import unknown
from waferline.machines.mesh import ELEMENT_BYTES, MeshParameters
from waferline.machines.mesh_costs.collectives import Cycles, chain_reduce_cycles, transfer_cycles, word_cycles

WORD_BYTES = 4  # of a link
ALGORITHMS = ("meshgemm", "cannon", "summa", "allgather")
"""Schemes for C = A B; `gemm-t` (C = A B^T, WaferLLM's dist-GEMM-T) has its own function."""

INTERLEAVE_HOPS = 2  # WaferLLM Algorithm 1: no ring neighbour is further away


@dataclass(frozen=True, slots=True)
class Tiling:
    """Blocks of one GEMM: per core `mt` x `kt` of A, `kt` x `nt` of B, `mt` x `nt` of C, in `steps` steps.

    A core is home to `a_blocks` blocks of A and `b_blocks` of B (one each on a square mesh). Sizes that do not divide
    are padded with zeros.
    """

    mt: IntArray
    kt: IntArray
    nt: IntArray
    steps: IntArray
    a_blocks: IntArray
    b_blocks: IntArray


@dataclass(frozen=True, slots=True)
class Packed:
    """How B is stored where it is not in the cores' numbers: `block` weights along K stay together; decoded at each use."""

    bits: float  # of a weight, scales included
    block: int
    decode_cycles: float  # of a weight

    def tile_bytes(self, kt: ArrayLike, nt: ArrayLike) -> IntArray:
        return np.asarray(np.ceil(np.asarray(kt) * np.asarray(nt) * self.bits / 8), np.int64)

    def tile_words(self, kt: ArrayLike, nt: ArrayLike) -> IntArray:
        return -(-self.tile_bytes(kt, nt) // WORD_BYTES)


@dataclass(frozen=True, slots=True)
class GemmCycles:
    """One GEMM, in cycles: `total = start + alignment + steps * step` (and a gather phase for all-gather)."""

    total: Cycles
    start: Cycles
    alignment: Cycles
    steps: IntArray
    step: Cycles
    step_compute: Cycles
    step_communication: Cycles
    step_fixed: Cycles

    @property
    def compute(self) -> Cycles:
        """Cycles a core computes: multiplications and the fixed instructions around them."""
        return self.steps * (self.step_compute + self.step_fixed) + self.start

    @property
    def communication(self) -> Cycles:
        """Cycles transfers are under way on the slowest core."""
        return self.alignment + self.steps * self.step_communication

    @property
    def overlap(self) -> Cycles:
        """Of the communication, cycles hidden behind the multiplication."""
        return np.maximum(self.compute + self.communication - self.total, 0.0)


def gemm_tiling(
    m: ArrayLike, k: ArrayLike, n: ArrayLike, width: ArrayLike, height: ArrayLike, block: int = 1
) -> Tiling:
    """Block sizes of an M x K x N GEMM on a `width` x `height` mesh; K is cut into whole blocks of `block`."""
    m, k, n, width, height = (np.asarray(v, np.int64) for v in (m, k, n, width, height))
    steps = np.lcm(width, height)
    kt = (k + steps * block - 1) // (steps * block) * block
    return Tiling(-(-m // height), kt, -(-n // width), steps, steps // width, steps // height)


def tile_gemm_cycles(
    p: MeshParameters, mt: ArrayLike, kt: ArrayLike, nt: ArrayLike, number_format: str = "fp16"
) -> Cycles:
    """A core's own multiply: for each of kt * nt elements of B, one vector FMAC over the mt rows of C."""
    vectors = np.ceil(np.asarray(mt) / p.simd(number_format))
    return np.asarray(kt) * np.asarray(nt) * (p.map_base_cycles + p.map_vector_cycles * vectors)


def tile_words(p: MeshParameters, rows: ArrayLike, columns: ArrayLike, number_format: str) -> IntArray:
    """Link words of one tile."""
    return -(-(np.asarray(rows) * np.asarray(columns)) // p.elements_per_word(number_format))


def gemm_cycles(
    p: MeshParameters,
    m: ArrayLike,
    k: ArrayLike,
    n: ArrayLike,
    width: ArrayLike,
    height: ArrayLike,
    *,
    algorithm: str = "meshgemm",
    number_format: str = "fp16",
    packed: Packed | None = None,
) -> GemmCycles:
    """Cycles of one GEMM by `algorithm`; blocks of a `packed` B travel as they are and are decoded where they are multiplied.

    Raises:
        UnknownNameError: an algorithm or number format that is not known.
    """
    if algorithm not in ALGORITHMS:
        raise unknown("GEMM algorithm", algorithm, ALGORITHMS)
    t = gemm_tiling(m, k, n, width, height, packed.block if packed else 1)
    right = tile_words(p, t.kt, t.nt, number_format) if packed is None else packed.tile_words(t.kt, t.nt)
    words = (tile_words(p, t.mt, t.kt, number_format), right)
    sides = (np.asarray(width), np.asarray(height))
    compute = tile_gemm_cycles(p, t.mt, t.kt, t.nt, number_format)
    if packed is not None:
        compute = compute + t.kt * t.nt * packed.decode_cycles
    return _SCHEMES[algorithm](p, t, words, sides, compute)


def _slowest(*axes: Cycles) -> Cycles:
    return np.maximum(*axes)


def _shift(p: MeshParameters, words: IntArray, side: IntArray, hops: ArrayLike) -> Cycles:
    return np.where(side > 1, transfer_cycles(p, words, hops), 0.0)


def _in_steps(
    p: MeshParameters, steps: IntArray, step: Cycles, compute: Cycles, move: Cycles, alignment: Any = 0.0
) -> GemmCycles:
    """`steps` equal steps after the alignment."""
    start, fixed = np.asarray(p.start_cycles), np.asarray(p.step_cycles)
    total = start + alignment + steps * step
    return GemmCycles(total, start, np.broadcast_to(alignment, step.shape), steps, step, compute, move, fixed)


def _ring_scheme(
    p: MeshParameters, t: Tiling, words: tuple, sides: tuple, compute: Cycles, hops: tuple[IntArray, ...]
) -> GemmCycles:
    """Shift both operands round a ring while multiplying; A is first rotated row by row by up to half a turn."""
    move = _slowest(*(_shift(p, w, side, hop) for w, side, hop in zip(words, sides, hops, strict=True)))
    step = np.maximum(compute, move) + p.step_cycles
    rotation = words[0] * (p.align_word_cycles - word_cycles(p)) + transfer_cycles(p, words[0], hops[0])
    rotated = (sides[0] > 1) & (sides[1] > 1)
    alignment = np.where(rotated, (t.steps // 2) * (p.align_base_cycles + rotation), 0.0)
    return _in_steps(p, t.steps, step, compute, move, alignment)


def _meshgemm(p: MeshParameters, t: Tiling, words: tuple, sides: tuple, compute: Cycles) -> GemmCycles:
    return _ring_scheme(p, t, words, sides, compute, tuple(np.minimum(INTERLEAVE_HOPS, side - 1) for side in sides))


def _cannon(p: MeshParameters, t: Tiling, words: tuple, sides: tuple, compute: Cycles) -> GemmCycles:
    return _ring_scheme(p, t, words, sides, compute, tuple(side - 1 for side in sides))


def mean_broadcast_hops(cores: ArrayLike) -> Cycles:
    """Mean over all roots of a line of the distance to its far end; max(i, P-1-i) sums to (3P^2 - 2P - P odd) / 4."""
    n = np.asarray(cores)
    return (3 * n * n - 2 * n - n % 2) / (4 * n)


def _summa(p: MeshParameters, t: Tiling, words: tuple, sides: tuple, compute: Cycles) -> GemmCycles:
    """Each step one column and one row multicast their blocks; the multiply waits for both (no overlap)."""
    move = _slowest(*(_shift(p, w, side, mean_broadcast_hops(side)) for w, side in zip(words, sides, strict=True)))
    return _in_steps(p, t.steps, move + compute + p.step_cycles, compute, move)


def _allgather(p: MeshParameters, t: Tiling, words: tuple, sides: tuple, compute: Cycles) -> GemmCycles:
    """Gather whole panels round by round, each core relaying in software; then multiply."""
    blocks = (t.a_blocks, t.b_blocks)
    gather = np.zeros(())
    for w, side, held in zip(words, sides, blocks, strict=True):
        hops = np.minimum(INTERLEAVE_HOPS, side - 1)
        rounds = (side - 1) * (w * held * word_cycles(p) + p.hop_cycles * hops + p.stage_cycles)
        gather = np.maximum(gather, np.where(side > 1, rounds, 0.0))
    total = p.start_cycles + gather + t.steps * compute + p.step_cycles
    start, fixed, none = np.asarray(p.start_cycles), p.step_cycles / t.steps, np.zeros(np.shape(total))
    return GemmCycles(total, start, none, t.steps, total / t.steps, compute, gather / t.steps, fixed)


_SCHEMES = {"meshgemm": _meshgemm, "cannon": _cannon, "summa": _summa, "allgather": _allgather}


def gemm_t_cycles(
    p: MeshParameters,
    m: ArrayLike,
    k: ArrayLike,
    n: ArrayLike,
    side: ArrayLike,
    *,
    number_format: str = "fp16",
) -> GemmCycles:
    """C[M, N] = A[M, K] B[N, K]^T on a square mesh: B moves along y, partial tiles are chain-reduced along x.

    Each row reduces to another column, so in lock step a step lasts as long as its worst root: an end of the line (the
    longest chain) or, on very short lines, the middle (two chains into one core).
    """
    m, k, n, side = (np.asarray(v, np.int64) for v in (m, k, n, side))
    mt, kt, nt = -(-m // side), -(-k // side), -(-n // side)
    compute = tile_gemm_cycles(p, mt, nt, kt, number_format)
    hops = np.minimum(INTERLEAVE_HOPS, side - 1)
    move = np.where(side > 1, transfer_cycles(p, tile_words(p, nt, kt, number_format), hops), 0.0)
    words = tile_words(p, mt, nt, number_format)
    reduce = np.maximum(chain_reduce_cycles(p, side, words, 0), chain_reduce_cycles(p, side, words, side // 2))
    step = np.maximum(compute, move) + reduce + p.step_cycles
    return _in_steps(p, side, step, compute, move + reduce)


def gemm_memory_bytes(
    t: Tiling,
    *,
    algorithm: str = "meshgemm",
    number_format: str = "fp16",
    accumulator: str = "fp16",
    packed: Packed | None = None,
) -> dict[str, IntArray]:
    """SRAM bytes per core, by operand: home blocks, the block arriving beside them, the result, a column that is decoded."""
    size = ELEMENT_BYTES[number_format]
    a, b = t.mt * t.kt * size, t.kt * t.nt * size if packed is None else packed.tile_bytes(t.kt, t.nt)
    c = t.mt * t.nt * (4 if number_format == "int8" else ELEMENT_BYTES[accumulator])
    held_a, held_b = (t.steps, t.steps) if algorithm == "allgather" else (t.a_blocks, t.b_blocks)
    items = {"A blocks": held_a * a, "B blocks": held_b * b, "C block": c}
    if algorithm != "allgather":
        items |= {"A second buffer": a, "B second buffer": b}
    if packed is not None:
        items["decoded column"] = t.kt * size
    return items


def gemm_colours(algorithm: str, width: int, height: int) -> int:
    """Colours one router carries: three streams of a ring per axis and as many for the alignment's way back."""
    axes = (width > 1) + (height > 1)
    if algorithm == "summa":
        return 2 * axes  # SDK collectives_2d: two per axis, switched between roots
    if algorithm == "allgather":
        return 3 * axes
    return 3 * axes + 3 * (width > 1 and height > 1)
