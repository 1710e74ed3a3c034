"""A weight matrix in tiles, ready for the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from waferline.errors import InvalidInputError
from waferline.kernels.cpu.aligned import aligned_empty
from waferline.kernels.cpu.repack import pack_rows
from waferline.kernels.cpu.tiles import ROWS, Tile, tile_of

_NUMPY_FORMATS = {"float32": "F32", "float16": "F16"}


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """W (rows, cols) as u8 tiles; `source_bytes` is what the same weights take in the GGUF file."""

    tile: Tile
    rows: int
    cols: int
    data: np.ndarray

    @property
    def format(self) -> str:
        return self.tile.name

    @property
    def row_tiles(self) -> int:
        return -(-self.rows // ROWS)

    @property
    def blocks(self) -> int:
        return -(-self.cols // self.tile.block_k)

    @property
    def padded_cols(self) -> int:
        return self.blocks * self.tile.block_k

    @property
    def source_bytes(self) -> int:
        return self.rows * row_bytes(self.tile, self.cols)


def row_bytes(tile: Tile, cols: int) -> int:
    """Bytes of one row of `cols` weights in the file. Raises `InvalidInputError` if cols is no whole number of blocks."""
    if cols % tile.source_k:
        raise InvalidInputError(f"{cols} columns in {tile.name}", hint=f"a multiple of {tile.source_k}")
    return cols // tile.source_k * tile.source_bytes


def packed_bytes(format: str, rows: int, cols: int) -> int:
    """Memory a packed matrix takes."""
    tile = tile_of(format)
    return -(-rows // ROWS) * -(-cols // tile.block_k) * tile.tile_bytes


def pack_into(tile: Tile, source: np.ndarray, rows: int, cols: int, out: np.ndarray) -> PackedMatrix:
    """Pack u8 `source` (rows * row bytes, any shape) into `out` (u8, exactly `packed_bytes` long)."""
    matrix = PackedMatrix(tile, rows, cols, out)
    pack_rows(tile, source.reshape(rows, row_bytes(tile, cols)), out.reshape(matrix.row_tiles, -1))
    return matrix


def pack(data: bytes | np.ndarray, format: str | None = None, shape: tuple[int, int] | None = None) -> PackedMatrix:
    """Repack weights for the kernels.

    data: GGUF bytes of `format` with `shape` = (rows, cols), or a 2-D float array (float32 and float16 without a format).
    Raises `UnsupportedError` for a format without a kernel, `InvalidInputError` when bytes and shape disagree.
    """
    if isinstance(data, np.ndarray) and data.dtype.kind == "f":
        if data.ndim != 2 or str(data.dtype) not in _NUMPY_FORMATS:
            raise InvalidInputError(
                f"weights are {data.dtype} with {data.ndim} dimensions", where="pack", hint="2-D float32 or float16"
            )
        format = format or _NUMPY_FORMATS[str(data.dtype)]
        if format.upper() != _NUMPY_FORMATS[str(data.dtype)]:
            raise InvalidInputError(f"a {data.dtype} array as {format}", where="pack", hint="encode it first")
        shape = data.shape
    if format is None or shape is None:
        raise InvalidInputError("bytes need their format and shape", where="pack")
    tile = tile_of(format)
    rows, cols = (int(v) for v in shape)
    if rows < 1 or cols < 1:
        raise InvalidInputError(f"shape {rows} x {cols}", where="pack")
    source = (
        np.frombuffer(data, np.uint8)
        if isinstance(data, bytes | bytearray | memoryview)
        else np.ascontiguousarray(data)
    )
    source = source.reshape(-1).view(np.uint8)
    wanted = rows * row_bytes(tile, cols)
    if source.size != wanted:
        raise InvalidInputError(
            f"{source.size} bytes for {rows} x {cols} {tile.name}", where="pack", hint=f"{wanted} bytes"
        )
    return pack_into(tile, source, rows, cols, aligned_empty(packed_bytes(tile.name, rows, cols)))
