"""Safetensors files: a length, a JSON header, then the tensors' bytes.

Nothing in a header is believed before it is checked: lengths and offsets against the file, sizes against shapes, and
no two tensors may share bytes. Reading maps the file, so no memory is taken for data that is not asked for.
Layout: https://github.com/huggingface/safetensors#format (header at most 100 MB, little-endian, row-major).
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import IO, Any

from ..errors import FileFormatError
from .tensors import TensorFile, TensorInfo

MAX_HEADER_BYTES = 100_000_000  # the reference implementation's limit
MAX_DIMENSIONS = 16

# safetensors dtype -> our format name, bytes an element
DTYPES = {
    "F64": ("f64", 8),
    "F32": ("fp32", 4),
    "F16": ("fp16", 2),
    "BF16": ("bf16", 2),
    "F8_E4M3": ("fp8", 1),
    "F8_E5M2": ("fp8_e5m2", 1),
    "I64": ("i64", 8),
    "I32": ("i32", 4),
    "I16": ("i16", 2),
    "I8": ("i8", 1),
    "U64": ("u64", 8),
    "U32": ("u32", 4),
    "U16": ("u16", 2),
    "U8": ("u8", 1),
    "BOOL": ("bool", 1),
}
_NAMES = {ours: theirs for theirs, (ours, _size) in DTYPES.items()}


def open_safetensors(path: Path) -> TensorFile:
    """The tensors of a safetensors file, checked and mapped, not read.

    Raises: FileFormatError naming the file and the first thing wrong with it.
    """
    where = str(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header, data_start = _read_header(file, size, where)
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", where=where) from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileFormatError("__metadata__ is not an object of strings", where=where)
    tensors = [_tensor(name, entry, data_start, size - data_start, where) for name, entry in header.items()]
    tensors.sort(key=lambda t: t.offset)
    for before, after in itertools.pairwise(tensors):
        if before.offset + before.nbytes > after.offset:
            raise FileFormatError(f"tensors '{before.name}' and '{after.name}' overlap", where=where)
    return TensorFile(path, "safetensors", tuple(tensors), dict(metadata))


def _read_header(file: IO[bytes], size: int, where: str) -> tuple[dict[str, Any], int]:
    """The JSON header and where the data starts."""
    length_bytes = file.read(8)
    if len(length_bytes) < 8:
        raise FileFormatError(f"{size} bytes are too few for a safetensors file", where=where)
    length = int.from_bytes(length_bytes, "little")
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise FileFormatError(
            f"the header claims {length} bytes, the file has {size - 8} after its length", where=where
        )
    try:
        header = json.loads(file.read(length), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:  # includes bad UTF-8
        raise FileFormatError(f"the header is not JSON: {error}", where=where) from None
    if not isinstance(header, dict):
        raise FileFormatError("the header is not a JSON object", where=where)
    return header, 8 + length


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key appears twice")
    return result


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _tensor(name: str, entry: Any, data_start: int, data_bytes: int, where: str) -> TensorInfo:
    """One header entry, checked against the size of the data."""
    if not isinstance(entry, dict):
        raise FileFormatError(f"tensor '{name}' is not a JSON object", where=where)
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise FileFormatError(f"tensor '{name}' has dtype {dtype!r}", where=where, hint="known: " + ", ".join(DTYPES))
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(_is_size(d) for d in shape):
        raise FileFormatError(f"tensor '{name}' has shape {shape!r}", where=where)
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(_is_size(o) for o in offsets)):
        raise FileFormatError(f"tensor '{name}' has data_offsets {offsets!r}", where=where)
    start, end = offsets
    format_name, item_bytes = DTYPES[dtype]
    needed = math.prod(shape) * item_bytes
    if end - start != needed:
        raise FileFormatError(f"tensor '{name}' needs {needed} bytes and has {end - start}", where=where)
    if end > data_bytes:
        raise FileFormatError(f"tensor '{name}' ends at byte {end} of {data_bytes}: the file is truncated", where=where)
    return TensorInfo(name, tuple(shape), format_name, data_start + start, needed)


def header_bytes(tensors: list[TensorInfo], metadata: dict[str, str]) -> bytes:
    """Length and JSON header of a file holding `tensors` one after another, padded so that data is 8-byte aligned."""
    entries: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for tensor in tensors:
        entries[tensor.name] = {
            "dtype": _NAMES[tensor.format],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.nbytes],
        }
        at += tensor.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def can_hold(format_name: str) -> bool:
    """Whether safetensors has a dtype for tensors in this format."""
    return format_name in _NAMES
