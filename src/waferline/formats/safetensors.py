"""Safetensors files: a length, a JSON header, then the tensors' bytes.

The `safetensors` package checks a header (at most 100 MB; sizes against shapes; tensors side by side up to the end of
the file) and maps the file, so no memory is taken for data that is not asked for. Headers are written here, because
the package writes only tensors that are all in memory, and a conversion goes piece by piece.
Layout: https://github.com/huggingface/safetensors#format (little-endian, row-major).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from waferline.catalog.text_file import check_regular
from waferline.errors import FileFormatError
from waferline.formats.tensors import TensorFile, TensorInfo

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
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_NAMES = {ours: theirs for theirs, (ours, _size) in DTYPES.items()}


def open_safetensors(path: Path) -> TensorFile:
    """The tensors of a safetensors file, checked and mapped, not read.

    Raises: FileFormatError naming the file and the first thing wrong with it.
    """
    from safetensors import SafetensorError, safe_open  # only when such a file is read

    where = str(path)
    try:
        with safe_open(path, framework="np") as file, path.open("rb") as raw:
            at = 8 + int.from_bytes(raw.read(8), "little")  # where the data starts
            tensors = []
            for name in file.offset_keys():  # in the order of their bytes, without gaps
                part = file.get_slice(name)
                tensors.append(_tensor(name, part.get_dtype(), tuple(part.get_shape()), at, where))
                at += tensors[-1].nbytes
            return TensorFile(path, "safetensors", tuple(tensors), file.metadata() or {})
    except SafetensorError as error:
        reason = " ".join(str(error).split()).removeprefix("Error while deserializing header: ")
        raise FileFormatError(f"not a safetensors file: {reason}", where=where) from None
    except MemoryError:  # it is mapped, not read: only a limit of addresses (`ulimit -v`) is in its way
        raise FileFormatError(f"its {path.stat().st_size:,} bytes do not fit the address space", where=where) from None
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror or error}", where=where) from None


def read_header(path: Path) -> list[TensorInfo]:
    """The tensors that the header of a safetensors file lists; what follows the header need not be there.

    A dtype that is not in `DTYPES` keeps its own name. Raises: FileFormatError naming the file and what is wrong.
    """
    where = str(path)
    check_regular(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            raw = file.read(length) if 1 < length <= _MAX_HEADER_BYTES else b""
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror or error}", where=where) from None
    if len(raw) != length or not raw:
        raise FileFormatError("not a safetensors file: no header of the length it gives", where=where)
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError):
        raise FileFormatError("not a safetensors file: its header is no JSON", where=where) from None
    if not isinstance(entries, dict):
        raise FileFormatError("not a safetensors file: its header is no mapping", where=where)
    return [_listed(name, entry, where) for name, entry in entries.items() if name != "__metadata__"]


def _listed(name: str, entry: Any, where: str) -> TensorInfo:
    try:
        dtype, shape, (start, end) = str(entry["dtype"]), tuple(entry["shape"]), entry["data_offsets"]
        sizes = [*shape, start, end]
        if not all(type(n) is int and n >= 0 for n in sizes) or end < start:
            raise ValueError
    except (TypeError, KeyError, ValueError):
        raise FileFormatError(
            f"tensor {name!r} is not described by dtype, shape and data_offsets", where=where
        ) from None
    return TensorInfo(name, shape, DTYPES.get(dtype, (dtype.lower(), 0))[0], start, end - start)


def _tensor(name: str, dtype: str, shape: tuple[int, ...], offset: int, where: str) -> TensorInfo:
    if dtype not in DTYPES:
        raise FileFormatError(f"tensor '{name}' has dtype {dtype!r}", where=where, hint="known: " + ", ".join(DTYPES))
    format_name, item_bytes = DTYPES[dtype]
    return TensorInfo(name, shape, format_name, offset, math.prod(shape) * item_bytes)


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
