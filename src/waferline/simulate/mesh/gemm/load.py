"""Words each core sends over its links in a GEMM, counted from its streams (the event engine counts them itself)."""

from __future__ import annotations

import numpy as np

from waferline.arrays import FloatArray
from waferline.machines.mesh import MeshParameters
from waferline.machines.mesh_costs.gemm import Packed, gemm_tiling, tile_words
from waferline.simulate.mesh.gemm.blocks import ring_plan


def words_sent(
    p: MeshParameters,
    sizes: tuple[int, int, int],
    width: int,
    height: int,
    *,
    algorithm: str,
    number_format: str,
    packed: Packed | None = None,
) -> FloatArray:
    """Link words by core, (height, width): a ring lays one stream on each direction of each link of its line."""
    t = gemm_tiling(*sizes, width, height, packed.block if packed else 1)
    a = int(tile_words(p, t.mt, t.kt, number_format))
    b = int(tile_words(p, t.kt, t.nt, number_format) if packed is None else packed.tile_words(t.kt, t.nt))
    c = int(tile_words(p, t.mt, t.nt, number_format))
    steps = int(t.steps)
    ring_x, ring_y = _streams_per_core(width)[None, :], _streams_per_core(height)[:, None]
    if algorithm == "summa":
        return steps * (a * _multicasts(width)[None, :] / width + b * _multicasts(height)[:, None] / height)
    if algorithm == "allgather":
        return a * int(t.a_blocks) * (width - 1) * ring_x + b * int(t.b_blocks) * (height - 1) * ring_y
    if algorithm == "gemm-t":
        return steps * b * ring_y + c * (width - 1) * np.ones(
            (height, width)
        )  # all but the step's owner send one tile on
    turns = np.abs(ring_plan(algorithm, width, height).rotation())[:, None] if min(width, height) > 1 else 0
    return a * (steps + turns) * ring_x + b * steps * ring_y


def _streams_per_core(size: int) -> FloatArray:
    """Streams leaving each position of a ring on a line: one per direction that has a neighbour."""
    place = np.arange(size)
    return (place > 0).astype(float) + (place < size - 1)


def _multicasts(size: int) -> FloatArray:
    """Over all roots of a line, how often each position sends: onwards, away from the root, and both ways as root."""
    place = np.arange(size)
    forward = np.where(place < size - 1, place + 1, 0)
    backward = np.where(place > 0, size - place, 0)
    return (forward + backward).astype(float)
