"""A GEMV on the mesh with real numbers: partial products per core, summed in the order the reduction sums them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from waferline.arrays import FloatArray
from waferline.simulate.mesh.collectives.tree import Chain, tree_levels, tree_root
from waferline.simulate.mesh.weights import WeightFormat

ACCUMULATE = {"fp32": np.float32, "fp16": np.float16, "int8": np.int64}


def partial_products(
    m: int,
    n: int,
    along: int,
    weights: WeightFormat,
    *,
    batch: int,
    number_format: str,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray, FloatArray]:
    """Each line position's partial result (along, batch, N), and the exact result (batch, N) of the same weights.

    Rows of B are drawn block by block, so that B is never whole in memory. Zero padding fills the last positions.
    """
    rows = weights.rows_per_core(m, along)
    rng = np.random.default_rng(seed)
    whole = number_format == "int8"
    a = rng.integers(-127, 128, (batch, m)) if whole else _rounded(rng.uniform(-1, 1, (batch, m)), number_format)
    partial = np.zeros((along, batch, n), np.int64 if whole else np.float32)
    reference = np.zeros((batch, n))
    for position in range(along):
        low, high = position * rows, min((position + 1) * rows, m)
        if low >= high:
            break
        tile = np.zeros((rows, n), np.float32)
        drawn = rng.integers(-127, 128, (high - low, n)) if whole else rng.uniform(-1, 1, (high - low, n)) / np.sqrt(m)
        tile[: high - low] = drawn if whole else _rounded(drawn, number_format)
        kept = weights.stored(tile)[: high - low]
        partial[position] = a[:, low:high] @ (kept.astype(np.int64) if whole else kept)
        reference += a[:, low:high].astype(np.float64) @ kept.astype(np.float64)
        if progress is not None:
            progress(position + 1, along)
    return partial, reference


def _rounded(values: NDArray, number_format: str) -> NDArray[np.float32]:
    return values.astype(np.float16 if number_format == "fp16" else np.float32).astype(np.float32)


def reduce_in_order(partial: NDArray, groups: Sequence[int], root: int | None, accumulator: str) -> NDArray:
    """Sum over the first axis as a K-tree does: along each chain from its ends to its root, level by level."""
    kept = partial.astype(ACCUMULATE[accumulator])
    levels = tree_levels(partial.shape[0], groups, root)
    for level in levels:
        for chain in level:
            _sum_chain(kept, chain)
    return kept[tree_root(levels)]


def _sum_chain(kept: NDArray, chain: Chain) -> None:
    members, root = chain.members, chain.root
    arms = [members[:root], members[:root:-1]]
    for arm in sorted((arm for arm in arms if len(arm)), key=len):
        for source, target in zip(arm, [*arm[1:], members[root]], strict=True):
            kept[target] += kept[source]
