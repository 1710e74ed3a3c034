"""GGUF blocks to tiles, once, at load. The source layouts are those of ggml-common.h; the target is `tiles.py`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import prange

from waferline.kernels.cpu.jit import jit, specialise
from waferline.kernels.cpu.tiles import ROWS, FloatTile, QuantTile, Tile

# Names a specialised copy of `_pack_rows` binds; see `_packer`.
READ: Any = None
BLOCK_K = SOURCE_K = SOURCE_BYTES = TILE_BYTES = SUBS = SCALE_BYTES = 0
SCALES_AT = MINS_AT = D_AT = DMIN_AT = 0
HAS_MINS = HAS_D = False
PLANES: tuple[tuple[int, int, int], ...] = ()  # (bits, position in the code, byte offset)


# --- one block of one row: codes u8[block_k], scales u8, mins u8, d and dmin as raw bytes ------------------------------
@jit
def _six_bit_pair(packed: Any, j: int) -> tuple[int, int]:
    """Scale and min of sub-block j out of the twelve bytes Q4_K and Q5_K share."""
    if j < 4:
        return packed[j] & 63, packed[j + 4] & 63
    scale = (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4)
    return scale, (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4)


@jit
def _read_q4_k(source: Any, codes: Any, scales: Any, mins: Any, d: Any) -> None:
    d[:] = source[:4]
    for j in range(8):
        scales[j], mins[j] = _six_bit_pair(source[4:16], j)
    for c in range(4):  # 64 columns: low nibbles first, then high
        for i in range(32):
            byte = source[16 + 32 * c + i]
            codes[64 * c + i] = byte & 15
            codes[64 * c + 32 + i] = byte >> 4


@jit
def _read_q5_k(source: Any, codes: Any, scales: Any, mins: Any, d: Any) -> None:
    d[:] = source[:4]
    for j in range(8):
        scales[j], mins[j] = _six_bit_pair(source[4:16], j)
    for c in range(4):
        for i in range(32):
            byte, high = source[48 + 32 * c + i], source[16 + i]
            codes[64 * c + i] = (byte & 15) | (((high >> (2 * c)) & 1) << 4)
            codes[64 * c + 32 + i] = (byte >> 4) | (((high >> (2 * c + 1)) & 1) << 4)


@jit
def _read_q6_k(source: Any, codes: Any, scales: Any, mins: Any, d: Any) -> None:
    d[:2] = source[208:210]
    scales[:] = source[192:208]
    for h in range(2):  # 128 columns
        for i in range(32):
            low0, low1, high = source[64 * h + i], source[64 * h + 32 + i], source[128 + 32 * h + i]
            codes[128 * h + i] = (low0 & 15) | ((high & 3) << 4)
            codes[128 * h + 32 + i] = (low1 & 15) | (((high >> 2) & 3) << 4)
            codes[128 * h + 64 + i] = (low0 >> 4) | (((high >> 4) & 3) << 4)
            codes[128 * h + 96 + i] = (low1 >> 4) | ((high >> 6) << 4)


@jit
def _read_q8_0(source: Any, codes: Any, scales: Any, mins: Any, d: Any) -> None:
    scales[:] = source[:2]
    for i in range(32):
        codes[i] = source[2 + i] ^ 0x80  # signed to biased


@jit
def _read_q4_0(source: Any, codes: Any, scales: Any, mins: Any, d: Any) -> None:
    scales[:] = source[:2]
    for i in range(16):
        codes[i] = source[2 + i] & 15
        codes[16 + i] = source[2 + i] >> 4


@jit
def _read_tq2_0(source: Any, codes: Any, scales: Any, mins: Any, d: Any) -> None:
    d[:2] = source[64:66]
    for h in range(2):
        for n in range(4):
            for i in range(32):
                codes[128 * h + 32 * n + i] = (source[32 * h + i] >> (2 * n)) & 3


_READERS = {
    "Q4_K": _read_q4_k,
    "Q5_K": _read_q5_k,
    "Q6_K": _read_q6_k,
    "Q8_0": _read_q8_0,
    "Q4_0": _read_q4_0,
    "TQ2_0": _read_tq2_0,
}


@jit
def _spread_plane(codes: Any, bits: int, position: int, row: int, plane: Any) -> None:
    """One row's codes into one plane: `bits` of each from bit `position` on (see `tiles.py` for the order)."""
    per_vector = 8 // bits
    mask = np.uint8((1 << bits) - 1)
    for quad in range(codes.size // 4):
        at = (quad // per_vector) * 64 + row * 4
        shift = np.uint8(bits * (quad % per_vector))
        for t in range(4):
            plane[at + t] |= ((codes[4 * quad + t] >> np.uint8(position)) & mask) << shift


def _pack_rows(source: Any, tiles: Any) -> None:
    """source u8[rows, source blocks*SOURCE_BYTES] -> tiles u8[row tiles, blocks*TILE_BYTES], zeroed before."""
    blocks, sources = tiles.shape[1] // TILE_BYTES, source.shape[1] // SOURCE_BYTES
    together = BLOCK_K // SOURCE_K  # source blocks in a tile; the last tile may have fewer
    for row_tile in prange(tiles.shape[0]):
        codes = np.empty(BLOCK_K, np.uint8)
        scales = np.empty(SUBS * SCALE_BYTES, np.uint8)
        mins = np.empty(SUBS, np.uint8)
        d = np.empty(4, np.uint8)
        step = scales.size // together
        for r in range(min(ROWS, source.shape[0] - row_tile * ROWS)):
            for block in range(blocks):
                codes[:], scales[:] = 0, 0
                for i in range(min(together, sources - block * together)):
                    at = (block * together + i) * SOURCE_BYTES
                    READ(
                        source[row_tile * ROWS + r, at : at + SOURCE_BYTES],
                        codes[i * SOURCE_K : (i + 1) * SOURCE_K], scales[i * step : (i + 1) * step], mins, d,
                    )  # fmt: skip
                out = tiles[row_tile, block * TILE_BYTES : (block + 1) * TILE_BYTES]
                for bits, position, offset in PLANES:
                    _spread_plane(codes, bits, position, r, out[offset:])
                for sub in range(SUBS):
                    for i in range(SCALE_BYTES):
                        out[SCALES_AT + (sub * ROWS + r) * SCALE_BYTES + i] = scales[sub * SCALE_BYTES + i]
                    if HAS_MINS:  # pairs of sub-blocks side by side, for the 16-bit dot product
                        out[MINS_AT + (sub // 2) * 2 * ROWS + 2 * r + sub % 2] = mins[sub]
                if HAS_D:
                    out[D_AT + 2 * r], out[D_AT + 2 * r + 1] = d[0], d[1]
                if HAS_MINS:
                    out[DMIN_AT + 2 * r], out[DMIN_AT + 2 * r + 1] = d[2], d[3]


@cache
def _packer(tile: QuantTile) -> Any:
    positions = [sum(tile.planes[:p]) for p in range(len(tile.planes))]
    return specialise(
        _pack_rows,
        f"pack_{tile.name.lower()}",
        parallel=True,
        READ=_READERS[tile.name],
        BLOCK_K=tile.block_k,
        SOURCE_K=tile.source_k,
        SOURCE_BYTES=tile.source_bytes,
        TILE_BYTES=tile.tile_bytes,
        SUBS=tile.subs,
        SCALE_BYTES={"u8": 1, "s8": 1, "f16": 2, None: 0}[tile.scale],
        SCALES_AT=tile.scales_offset,
        MINS_AT=tile.mins_offset,
        D_AT=tile.d_offset,
        DMIN_AT=tile.dmin_offset,
        HAS_MINS=tile.has_mins,
        HAS_D=tile.has_d,
        PLANES=tuple((bits, positions[p], tile.plane_offset(p)) for p, bits in enumerate(tile.planes)),
    )


def pack_rows(tile: Tile, source: np.ndarray, tiles: np.ndarray) -> None:
    """Fill `tiles` (u8[row tiles, blocks*tile_bytes]) from `source` (u8[rows, blocks*source_bytes]).

    Float rows whose byte count is not a whole number of blocks are padded with zeros.
    """
    if isinstance(tile, FloatTile):
        _pack_floats(tile, source, tiles)
        return
    tiles[:] = 0
    _packer(tile)(source, tiles)


def _pack_floats(tile: FloatTile, source: np.ndarray, tiles: np.ndarray) -> None:
    kind = {2: np.uint16, 4: np.uint32}[tile.element_bytes]
    values = np.ascontiguousarray(source).view(kind)
    out = tiles.view(kind).reshape(tiles.shape[0], -1, tile.block_k, ROWS)  # (row tile, block, k, row)
    out[:] = 0
    cols = values.shape[1]
    for row_tile in range(tiles.shape[0]):
        part = values[row_tile * ROWS : (row_tile + 1) * ROWS]
        flat = out[row_tile].reshape(-1, ROWS)  # (k, row)
        flat[:cols, : part.shape[0]] = part.T
