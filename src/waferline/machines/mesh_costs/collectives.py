"""Cycles of collectives on a line or rectangle of cores, in closed form.

Conventions of HPDC'24 (Luczynski et al., Near-Optimal Wafer-Scale Reduce): `words` are 32-bit link words, one word per
cycle and link; each depth costs both ramps and one cycle of the receiving core. `stage_cycles` (beta) stands for
their 2 T_R + 1, and is larger where software adds to it. Every size may be a scalar or an array.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from waferline.arrays import FloatArray, IntArray
from waferline.errors import InvalidInputError
from waferline.machines.mesh import MeshParameters

Cycles = FloatArray

RECEIVE_CYCLES = 1.0
"""The receiving core takes a word in one cycle (the +1 of HPDC'24's depth term)."""


def word_cycles(p: MeshParameters) -> float:
    """Cycles between two words of one stream: the link's rate, never faster than the core's one word per cycle."""
    return max(1.0, 1.0 / p.link_words_per_cycle)


def transfer_cycles(p: MeshParameters, words: ArrayLike, hops: ArrayLike) -> Cycles:
    """One stream of `words` over `hops` links by hardware routes alone: `words + alpha hops + 2 T_R + 1`."""
    return np.asarray(words) * word_cycles(p) + p.hop_cycles * np.asarray(hops) + 2 * p.ramp_cycles + RECEIVE_CYCLES


def broadcast_cycles(p: MeshParameters, cores: ArrayLike, words: ArrayLike, root: ArrayLike = 0) -> Cycles:
    """Multicast from position `root` of a line: HPDC'24 `B + P + 2 T_R` from an end."""
    cores, root = np.asarray(cores), np.asarray(root)
    return np.where(cores > 1, transfer_cycles(p, words, np.maximum(root, cores - 1 - root)), 0.0)


def broadcast_2d_cycles(p: MeshParameters, width: ArrayLike, height: ArrayLike, words: ArrayLike) -> Cycles:
    """Multicast from a corner over a rectangle: HPDC'24 `B + M + N - 2 + 2 T_R + 1`."""
    hops = np.asarray(width) + np.asarray(height) - 2
    return np.where(hops > 0, transfer_cycles(p, words, hops), 0.0)


def chain_reduce_cycles(
    p: MeshParameters, members: ArrayLike, words: ArrayLike, root: ArrayLike = 0, hops: ArrayLike = 1
) -> Cycles:
    """Reduce along a chain of `members`, `hops` links apart, from both ends to member `root`.

    From one end: HPDC'24 `B + (2 T_R + 2)(P - 1)`, here `B + (beta + alpha hops)(P - 1)`. With two arms the root takes
    the shorter first, then the longer.
    """
    members, root = np.asarray(members), np.asarray(root)
    long = np.maximum(root, members - 1 - root)
    short = np.minimum(root, members - 1 - root)
    link, drain = p.hop_cycles * np.asarray(hops), (np.asarray(words) - 1) * word_cycles(p)
    process = p.stage_cycles - 2 * p.ramp_cycles

    def first_word(arm: IntArray) -> Cycles:
        return word_cycles(p) + link + 2 * p.ramp_cycles + (link + p.stage_cycles) * (arm - 1)

    one_arm = first_word(short) + drain + process
    start = np.where(short > 0, np.maximum(first_word(long), one_arm), first_word(long))
    return np.where(long > 0, start + drain + process, 0.0)


def ktree_groups(cores: int, k: int) -> tuple[int, ...]:
    """Group sizes of a balanced K-tree: `k - 1` sizes near `cores ** (1 / k)`; the last level takes the rest.

    A divisor of what is left is taken when one lies within a factor 1.5, so that all groups are alike.

    Raises:
        InvalidInputError: `k` below 1.
    """
    if k < 1:
        raise InvalidInputError(f"a tree needs at least one level, not {k}", where="K-tree", hint="K = 1, 2 or 3")
    sizes, left = [], int(cores)
    for level in range(k - 1):
        ideal = left ** (1.0 / (k - level))
        divisors = [d for d in range(1, left + 1) if left % d == 0 and ideal / 1.5 <= d <= ideal * 1.5]
        size = min(divisors, key=lambda d: abs(d - ideal)) if divisors else max(1, round(ideal))
        sizes.append(size)
        left = -(-left // size)
    return tuple(sizes)


def ktree_reduce_cycles(
    p: MeshParameters,
    cores: ArrayLike,
    words: ArrayLike,
    groups: Sequence[ArrayLike] = (),
    root: ArrayLike | None = None,
) -> Cycles:
    """Reduce by a K-tree, K = len(groups) + 1: chains of `groups[0]` neighbours, then of their roots, and so on.

    `root` is the position that ends with the sum (the middle of every group when None). Software acts only at the
    roots of a level; between them words pass through routers.
    """
    left, hops, at = np.asarray(cores), np.asarray(1), root
    total: Cycles = np.zeros(())
    for size in (*groups, None):
        members = left if size is None else np.minimum(np.asarray(size), left)
        if at is None:
            digit = members // 2
        else:
            digit = np.minimum(np.asarray(at) if size is None else np.asarray(at) % members, members - 1)
            at = np.asarray(at) // members
        total = total + chain_reduce_cycles(p, members, words, digit, hops)
        hops, left = hops * members, -(-left // members)
    return total


def ktree_root(cores: ArrayLike, groups: Sequence[ArrayLike] = ()) -> IntArray:
    """Position that ends with the sum when every group's root is its middle."""
    left, hops, position = np.asarray(cores), np.asarray(1), np.asarray(0)
    for size in (*groups, None):
        members = left if size is None else np.minimum(np.asarray(size), left)
        position = position + hops * (members // 2)
        hops, left = hops * members, -(-left // members)
    return np.minimum(position, np.asarray(cores) - 1)


def ktree_allreduce_cycles(
    p: MeshParameters,
    cores: ArrayLike,
    words: ArrayLike,
    groups: Sequence[ArrayLike] = (),
    root: ArrayLike | None = None,
) -> Cycles:
    """K-tree reduce, then the root's multicast both ways (WaferLLM section 6, `two_tree_allreduce` for K = 2)."""
    at = ktree_root(cores, groups) if root is None else root
    return ktree_reduce_cycles(p, cores, words, groups, root) + broadcast_cycles(p, cores, words, at)


def chain_allreduce_cycles(p: MeshParameters, cores: ArrayLike, words: ArrayLike, root: ArrayLike = 0) -> Cycles:
    """Reduce along one chain to `root` and broadcast back: the pipeline all-reduce of the vendor's library."""
    return chain_reduce_cycles(p, cores, words, root) + broadcast_cycles(p, cores, words, root)


def ring_reduce_scatter_cycles(p: MeshParameters, cores: ArrayLike, words: ArrayLike) -> Cycles:
    """P - 1 rounds of B / P words around a ring laid on the line; the ring's wrap is paid once per turn."""
    n = np.asarray(cores)
    chunk = np.ceil(np.asarray(words) / np.maximum(n, 1)) * word_cycles(p)
    return np.where(n > 1, (n - 1) * (chunk + p.stage_cycles) + p.hop_cycles * (2 * n - 3), 0.0)


def ring_allreduce_cycles(p: MeshParameters, cores: ArrayLike, words: ArrayLike) -> Cycles:
    """Reduce-scatter and all-gather on the ring: HPDC'24 `2(P-1)B/P + 4P - 6 + 2(P-1)(2 T_R + 1)`."""
    n = np.asarray(cores)
    chunk = np.ceil(np.asarray(words) / np.maximum(n, 1)) * word_cycles(p)
    return np.where(n > 1, 2 * (n - 1) * (chunk + p.stage_cycles) + p.hop_cycles * (4 * n - 6), 0.0)


REDUCTIONS = ("chain", "ring", "ktree")
"""Names of the all-reduce algorithms; `ktree:K` gives the number of levels, `ktree` alone means 2."""


def parse_reduction(text: str) -> tuple[str, int]:
    """`chain`, `ring`, `ktree` or `ktree:K` as (name, levels).

    Raises:
        InvalidInputError: none of these.
    """
    name, _, levels = text.strip().lower().partition(":")
    whole = levels.isdecimal() and len(levels) <= 2 and int(levels) >= 1
    if name not in REDUCTIONS or (levels and (name != "ktree" or not whole)):
        raise InvalidInputError(
            f"unknown reduction '{text}'", where="--reduce", hint="chain, ring, ktree:1, ktree:2, ktree:3"
        )
    return name, int(levels or 2) if name == "ktree" else 1


def allreduce_cycles(
    p: MeshParameters, cores: ArrayLike, words: ArrayLike, reduction: str = "ktree:2", group: ArrayLike | None = None
) -> Cycles:
    """All-reduce on a line by name; `group` overrides the first level's group size of a K-tree."""
    name, levels = parse_reduction(reduction)
    if name == "chain":
        return chain_allreduce_cycles(p, cores, words)
    if name == "ring":
        return ring_allreduce_cycles(p, cores, words)
    if group is not None:
        groups: Sequence[ArrayLike] = (group,) * (levels - 1)
    elif np.ndim(cores) == 0:
        groups = ktree_groups(int(np.asarray(cores)), levels)
    else:
        size = np.maximum(1, np.rint(np.asarray(cores, float) ** (1.0 / levels))).astype(np.int64)
        groups = (size,) * (levels - 1)
    return ktree_allreduce_cycles(p, cores, words, groups)


def reduction_colours(reduction: str) -> int:
    """Colours one axis needs: two per tree level and one for the broadcast; a ring needs neighbours (2) and a wrap."""
    name, levels = parse_reduction(reduction)
    return 3 if name == "ring" else 2 * levels + 1
