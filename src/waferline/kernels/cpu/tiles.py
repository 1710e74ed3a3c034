"""How weights lie in memory once packed: tiles of 16 rows, so that one 32-bit lane is one row.

A quantised block of `block_k` columns becomes, for 16 rows at once:

    scales   one per row and sub-block of `sub_k` columns (u8, s8 or f16)
    mins     u8 pairs of neighbouring sub-blocks, where the format has them
    d, dmin  one f16 per row
    planes   the integer codes, split by bits (Q6_K: 4 + 2); a 64-byte vector holds, per row and byte, 8/bits codes

and value = d * scale * (code - bias) - dmin * min. Within a plane of w bits, byte t of the lane of row r in vector v
holds the codes of columns k = 4*(v*(8/w) + i) + t at bit i*w, for i = 0 ... 8/w - 1: any group of four columns (a *quad*)
comes out with one shift and one mask, in the order the byte dot product wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from waferline.errors import UnsupportedError
from waferline.kernels.cpu.simd import LANES, VECTOR_BYTES

ROWS = LANES  # rows in a tile
CHUNK_K = 32  # columns unrolled at once: one vector of the narrowest (1-bit) plane, eight quads
QUADS = CHUNK_K // 4
_BYTES_PER_K = VECTOR_BYTES // 4  # one code byte for each of 16 rows


@dataclass(frozen=True, slots=True)
class QuantTile:
    """A block-quantised format in tiles. Offsets and sizes are bytes inside one tile (16 rows x `block_k` columns)."""

    name: str
    source_bytes: int  # of one block of one row in the GGUF file
    source_k: int  # columns in it
    block_k: int  # columns in a tile: some source blocks together, so that tiles keep to cache lines
    sub_k: int
    planes: tuple[int, ...]  # bits of each plane, least significant first
    bias: int  # subtracted from every code
    scale: Literal["u8", "s8", "f16"] | None  # per sub-block; None: only d
    has_mins: bool = False
    exact: bool = False

    @property
    def code_bits(self) -> int:
        return sum(self.planes)

    @property
    def subs(self) -> int:
        return self.block_k // self.sub_k

    @property
    def has_d(self) -> bool:
        """Whether a super-block scale exists beside the sub-block scales."""
        return self.scale != "f16"

    @property
    def activation(self) -> str:
        """The int8 activation layout the format is multiplied with (scale per 256 or per 32 columns)."""
        return "q8_k" if self.block_k == 256 else "q8_0"

    @property
    def scales_offset(self) -> int:
        return 0

    @property
    def mins_offset(self) -> int:
        return self.scales_offset + self.subs * ROWS * {"u8": 1, "s8": 1, "f16": 2, None: 0}[self.scale]

    @property
    def d_offset(self) -> int:
        return self.mins_offset + (self.subs * ROWS if self.has_mins else 0)

    @property
    def dmin_offset(self) -> int:
        return self.d_offset + (2 * ROWS if self.has_d else 0)

    def plane_offset(self, plane: int) -> int:
        """Where a plane begins; plane `len(planes)` would begin at the end of the tile."""
        header = self.dmin_offset + (2 * ROWS if self.has_mins else 0)
        return header + sum(self.block_k * _BYTES_PER_K * bits // 8 for bits in self.planes[:plane])

    @property
    def tile_bytes(self) -> int:
        return self.plane_offset(len(self.planes))


@dataclass(frozen=True, slots=True)
class FloatTile:
    """Unquantised weights in tiles of 16 rows x 32 columns, column by column: element (row, k) at (16*k + row)."""

    name: str
    element_bytes: int
    block_k: int = CHUNK_K
    exact: bool = True

    @property
    def source_k(self) -> int:
        return 1

    @property
    def source_bytes(self) -> int:
        return self.element_bytes

    @property
    def activation(self) -> str:
        return "f32"

    @property
    def tile_bytes(self) -> int:
        return self.block_k * ROWS * self.element_bytes


Tile = QuantTile | FloatTile

# name, source bytes and columns, columns per tile and sub-block, planes, bias, scale. ggml-common.h has the source layouts.
TILES: dict[str, Tile] = {
    t.name: t
    for t in (
        QuantTile("Q4_K", 144, 256, 256, 32, (4,), 0, "u8", has_mins=True),
        QuantTile("Q5_K", 176, 256, 256, 32, (4, 1), 0, "u8", has_mins=True),
        QuantTile("Q6_K", 210, 256, 256, 16, (4, 2), 32, "s8"),
        QuantTile("Q8_0", 34, 32, 64, 32, (8,), 128, "f16"),
        QuantTile("Q4_0", 18, 32, 64, 32, (4,), 8, "f16"),
        QuantTile("TQ2_0", 66, 256, 256, 256, (2,), 1, None),
        FloatTile("F16", 2),
        FloatTile("BF16", 2),
        FloatTile("F32", 4),
    )
}
_ALIASES = {"FP16": "F16", "FP32": "F32"}  # as the catalogue names them
# A stable small integer per format: compiled code dispatches on it.
CODES: dict[str, int] = {name: i for i, name in enumerate(TILES)}


def tile_of(name: str) -> Tile:
    """The tile layout of a format named as in GGUF, upper or lower case. Raises `UnsupportedError` naming the others."""
    key = name.upper()
    found = TILES.get(_ALIASES.get(key, key))
    if found is None:
        raise UnsupportedError(f"no CPU kernel for format '{name}'", hint="supported: " + ", ".join(TILES))
    return found
