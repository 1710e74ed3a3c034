"""Weights as a core keeps them: plain numbers, or quantised blocks that it decodes itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from waferline.formats.codec import codec_for, decode, encode, row_bytes
from waferline.machines.mesh import ELEMENT_BYTES, MeshParameters
from waferline.machines.mesh_costs.gemm import Packed

DEQUANTIZE_OPERATIONS_PER_WEIGHT = 3.0
"""Mask or shift, convert, multiply-add with the block's scale and minimum (assumed; no wafer kernel is published)."""


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """A weight format by name: `fp16`, `fp32`, `int8`, or a block codec such as `q4_k` or `q4_0`."""

    name: str
    block: int  # weights along the reduced dimension that stay together
    quantised: bool

    def tile_bytes(self, rows: int, columns: int) -> int:
        """SRAM bytes of a tile of `rows` (reduced dimension) x `columns`."""
        if self.quantised:
            return columns * row_bytes(self.name, rows)
        return rows * columns * ELEMENT_BYTES[self.name]

    def rows_per_core(self, m: int, cores: int) -> int:
        """Rows each core holds when M is split in whole blocks."""
        blocks = -(-m // self.block)
        return -(-blocks // cores) * self.block

    def packed(self, p: MeshParameters, number_format: str) -> Packed | None:
        """It as a GEMM's closed form knows it; None where it is the cores' own numbers."""
        if not self.quantised:
            return None
        return Packed(
            8 * row_bytes(self.name, self.block) / self.block, self.block, self.decode_cycles(p, number_format)
        )

    def decode_cycles(self, p: MeshParameters, number_format: str) -> float:
        """Cycles that a core takes to decode one weight."""
        return DEQUANTIZE_OPERATIONS_PER_WEIGHT / p.simd(number_format) if self.quantised else 0.0

    def stored(self, tile: NDArray) -> NDArray[np.float32]:
        """What the core computes with: the tile (rows, columns) through the format and back, blocks along the rows, the last
        one filled up with zeros."""
        if not self.quantised:
            return tile.astype(np.float32)
        weights = np.zeros((tile.shape[1], self.rows_per_core(len(tile), 1)), np.float32)
        weights[:, : len(tile)] = tile.T
        return decode(encode(weights, self.name), self.name, weights.shape).T[: len(tile)]


def weight_format(name: str) -> WeightFormat:
    """The weight format called `name`.

    Raises:
        UnknownNameError: neither a format of the cores nor of the block codecs.
    """
    if name in ELEMENT_BYTES:
        return WeightFormat(name, 1, False)
    codec = codec_for(name)
    return WeightFormat(codec.name, codec.block, True)
