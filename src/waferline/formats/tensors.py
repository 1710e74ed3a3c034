"""Tensors in files: what they are called, where they lie, and their values as float32, whatever the file's format."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waferline.errors import FileFormatError, UnsupportedError, unknown
from waferline.formats.codec import CHUNK_WEIGHTS, codecs, decode_chunks
from waferline.formats.codecs.record import F32, U8

_NUMPY = {"f64": "<f8", "i64": "<i8", "i32": "<i4", "i16": "<i2", "i8": "i1", "u64": "<u8", "u32": "<u4", "u16": "<u2"}
_NUMPY |= {"u8": "u1", "bool": "?"}
SUFFIXES = (".safetensors", ".gguf")
BLOCK_SCALE_SUFFIX = "_scale_inv"  # 128 x 128 block scales, as DeepSeek-V3 checkpoints name them


def scale_name(tensor_name: str, kind: str) -> str:
    """What the float32 scale of a tensor is called: `x.weight_scale` in safetensors (compressed-tensors, vLLM),
    `x.scale` for `x.weight` in GGUF (llama.cpp's NVFP4)."""
    return tensor_name.removesuffix(".weight") + ".scale" if kind == "gguf" else tensor_name + "_scale"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One stored tensor. `shape` is row-major; `format` a codec name or a plain type such as `i64`; `offset` in bytes
    from the start of the file."""

    name: str
    shape: tuple[int, ...]
    format: str
    offset: int
    nbytes: int

    @property
    def weights(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the elements are real numbers (and not integers or booleans)."""
        return self.format in codecs() or self.format == "f64"

    def matrix(self) -> tuple[int, int]:
        """The shape as rows and columns: the last dimension is the row."""
        cols = self.shape[-1] if self.shape else 1
        return (self.weights // cols if cols else 0), cols


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A tensor file with its header read. `metadata` is text (safetensors) or `GGUFField` (GGUF) by key."""

    path: Path
    kind: str
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, Any]

    def __getitem__(self, name: str) -> TensorInfo:
        """The tensor of that name. Raises: UnknownNameError."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise unknown("tensor", name, [t.name for t in self.tensors], where=str(self.path))

    def scale_of(self, tensor: TensorInfo) -> TensorInfo | None:
        """The tensor that holds the scale of `tensor`, when its format has one and the file has it.

        Raises: UnsupportedError for scales of another layout than one a tensor or one a row.
        """
        if tensor.format not in codecs() or codecs()[tensor.format].tensor_scale == "none":
            return None
        by_name = {t.name: t for t in self.tensors}
        if tensor.name + BLOCK_SCALE_SUFFIX in by_name:
            raise UnsupportedError(f"block scales of tensor '{tensor.name}' are not read", where=str(self.path))
        found = by_name.get(scale_name(tensor.name, self.kind))
        if found is not None and found.weights not in (1, tensor.matrix()[0]):
            raise UnsupportedError(
                f"scales of shape {found.shape} in '{found.name}' are not read", where=str(self.path)
            )
        return found

    def raw(self, tensor: TensorInfo) -> U8:
        """The tensor's bytes, mapped from the file (read-only)."""
        if tensor.nbytes == 0:
            return np.empty(0, np.uint8)
        try:
            return np.memmap(self.path, np.uint8, "r", tensor.offset, (tensor.nbytes,))
        except (OSError, ValueError) as error:
            raise FileFormatError(f"tensor '{tensor.name}' cannot be read: {error}", where=str(self.path)) from None

    def chunks(self, tensor: TensorInfo) -> Iterator[tuple[slice, F32]]:
        """The tensor's rows as float32, a bounded piece at a time: (slice of rows, `(rows in piece, cols)`). Its scale,
        if the file has one beside it, is applied.

        Raises: UnsupportedError when the file's format has no decoder, or scales that are not read.
        """
        rows, cols = tensor.matrix()
        if not rows or not cols:
            return
        data = self.raw(tensor)
        if tensor.format in codecs():
            found = self.scale_of(tensor)
            scale = np.ones((1, 1), np.float32) if found is None else self.read(found).reshape(-1, 1)
            unscaled = None if codecs()[tensor.format].tensor_scale == "none" else 1.0
            for part, values in decode_chunks(data, tensor.format, (rows, cols), tensor_scale=unscaled):
                yield part, values if found is None else values * (scale if len(scale) == 1 else scale[part])
        elif tensor.format in _NUMPY:
            values = data.view(np.dtype(_NUMPY[tensor.format])).reshape(rows, cols)
            step = max(1, CHUNK_WEIGHTS // cols)
            for start in range(0, rows, step):
                part = slice(start, min(start + step, rows))
                yield part, values[part].astype(np.float32)
        else:
            raise UnsupportedError(f"'{tensor.format}' has no decoder (tensor '{tensor.name}')", where=str(self.path))

    def read(self, tensor: TensorInfo) -> F32:
        """The whole tensor as float32, in its shape."""
        out = np.empty(tensor.matrix(), np.float32)
        for part, values in self.chunks(tensor):
            out[part] = values
        return out.reshape(tensor.shape)
