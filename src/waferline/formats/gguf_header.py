"""The header of a GGUF file: key-value metadata and tensor descriptions, read defensively.

A count or length in the file is believed only as far as the bytes that are left could hold it, so a corrupt file costs
an error, not memory. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3).
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from waferline.errors import FileFormatError, UnsupportedError
from waferline.formats.codec import codecs
from waferline.formats.tensors import TensorFile, TensorInfo

T = TypeVar("T")

MAGIC = b"GGUF"
GENERAL = "general."
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 8
MAX_NESTING = 4
STRING, ARRAY = 8, 9
# value type id -> NumPy type; 8 is a string, 9 an array
SCALARS = {0: "u1", 1: "i1", 2: "u2", 3: "i2", 4: "u4", 5: "i4", 6: "f4", 7: "?", 10: "u8", 11: "i8", 12: "f8"}
_PLAIN = {"F64": "f64", "I8": "i8", "I16": "i16", "I32": "i32", "I64": "i64"}  # ggml types that are not weight formats

# Types that the `gguf` package does not know: number → name, weights and bytes of a block, bytes of a row beside its blocks.
# llama.cpp, ggml-common.h (Q1_0, Q2_0); ik_llama.cpp, as vLLM's GGUF loader registers its types.
BESIDE: Mapping[int, tuple[str, int, int, int]] = {
    41: ("Q1_0", 128, 18, 0),
    42: ("Q2_0", 64, 18, 0),
    133: ("Q6_0", 32, 26, 0),
    137: ("IQ2_K", 256, 76, 0),
    138: ("IQ3_K", 256, 110, 0),
    139: ("IQ4_K", 256, 144, 0),
    140: ("IQ5_K", 256, 176, 0),
    141: ("IQ6_K", 256, 212, 0),
    144: ("IQ4_KS", 256, 136, 4),
    145: ("IQ2_KS", 256, 70, 2),
    146: ("IQ4_KSS", 256, 128, 4),
    152: ("IQ5_KS", 256, 168, 4),
    153: ("IQ2_KT", 256, 68, 4),
    154: ("IQ3_KT", 256, 100, 4),
    155: ("IQ4_KT", 256, 128, 4),
    156: ("IQ3_KS", 256, 102, 2),
    157: ("IQ2_KL", 256, 86, 2),
    158: ("IQ1_KT", 256, 56, 4),
}
# Types that llama.cpp took out of files: repacked in memory instead (ggml.h), or never used.
GONE: Mapping[int, str] = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4 (or I2_S of bitnet.cpp)",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
    134: "IQ1_BN",
    135: "IQ2_BN",
}


@dataclass(frozen=True, slots=True)
class GGUFField:
    """One metadata value: a number, bool, str, or list of those. `type_id` is GGUF's, `item_id` that of list items."""

    value: Any
    type_id: int
    item_id: int | None = None


class _Cursor:
    """A position in the mapped file; every read is checked against what is left."""

    def __init__(self, data: mmap.mmap, where: str) -> None:
        self.data, self.where, self.at = data, where, 0

    def fail(self, message: str) -> FileFormatError:
        return FileFormatError(f"{message} (byte {self.at} of {len(self.data)})", where=self.where)

    def take(self, count: int, what: str) -> bytes:
        if count > len(self.data) - self.at:
            raise self.fail(f"truncated: {what} needs {count} bytes")
        start, self.at = self.at, self.at + count
        return self.data[start : self.at]

    def number(self, code: str, what: str) -> int:
        return int(struct.unpack("<" + code, self.take(struct.calcsize(code), what))[0])

    def count(self, what: str, least_bytes: int) -> int:
        """A count of things of at least `least_bytes` each."""
        n = self.number("Q", what)
        if n * least_bytes > len(self.data) - self.at:
            raise self.fail(f"{what} is {n}, more than the file could hold")
        return n

    def text(self, what: str) -> str:
        raw = self.take(self.count(f"length of {what}", 1), what)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.fail(f"{what} is not UTF-8") from None

    def value(self, type_id: int, what: str, depth: int = 0) -> tuple[Any, int | None]:
        """The value and, for arrays, the type of its items."""
        if type_id in SCALARS:
            dtype = np.dtype(SCALARS[type_id]).newbyteorder("<")
            return np.frombuffer(self.take(dtype.itemsize, what), dtype)[0].item(), None
        if type_id == STRING:
            return self.text(what), None
        if type_id != ARRAY or depth >= MAX_NESTING:
            raise self.fail(f"{what} has value type {type_id}")
        item_id = self.number("I", what)
        if item_id in SCALARS:
            dtype = np.dtype(SCALARS[item_id]).newbyteorder("<")
            n = self.count(f"length of {what}", dtype.itemsize)
            return np.frombuffer(self.take(n * dtype.itemsize, what), dtype).tolist(), item_id
        n = self.count(f"length of {what}", 8)
        return [self.value(item_id, what, depth + 1)[0] for _ in range(n)], item_id


def is_gguf(path: Path) -> bool:
    """Whether a file starts as GGUF files do, whatever it is called."""
    if not os.path.isfile(path):  # noqa: PTH113  Path.is_file raises for a name too long for a path
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def open_gguf(path: Path) -> TensorFile:
    """The tensors and metadata of a GGUF file, checked and mapped, not read. Metadata values are `GGUFField`.

    Raises: FileFormatError naming the file and the first thing wrong; UnsupportedError for big-endian files.
    """
    return _mapped(path, lambda cursor: _parse(cursor, path))


def first_fields(path: Path) -> dict[str, GGUFField]:
    """The metadata in front of the first key that is not general: what a file is, without its tokens and tensors.

    Raises: as `open_gguf`.
    """
    return _mapped(path, lambda cursor: _fields(cursor, _counts(cursor)[1], only=GENERAL))


def _mapped(path: Path, read: Callable[[_Cursor], T]) -> T:
    where = str(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read(_Cursor(data, where))
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", where=where) from None
    except ValueError as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError("an empty file is not a GGUF file", where=where) from None


def _counts(cursor: _Cursor) -> tuple[int, int]:
    """The numbers of tensors and of metadata fields, behind the magic number and the version."""
    if cursor.take(4, "the magic number") != MAGIC:
        raise FileFormatError("not a GGUF file: it does not start with 'GGUF'", where=cursor.where)
    version = cursor.number("I", "the version")
    if version not in VERSIONS:
        if version.to_bytes(4, "little")[::-1] in {v.to_bytes(4, "little") for v in VERSIONS}:
            raise UnsupportedError("big-endian GGUF files are not read", where=cursor.where)
        raise FileFormatError(f"GGUF version {version}", where=cursor.where, hint="versions 2 and 3 are read")
    return cursor.count("the number of tensors", 24), cursor.count("the number of metadata fields", 13)


def _fields(cursor: _Cursor, count: int, only: str = "") -> dict[str, GGUFField]:
    """`count` metadata fields, or those before the first whose key does not start with `only`."""
    fields: dict[str, GGUFField] = {}
    for _ in range(count):
        key = cursor.text("a metadata key")
        if not key.startswith(only):
            break
        type_id = cursor.number("I", f"the type of '{key}'")
        value, item_id = cursor.value(type_id, f"'{key}'")
        if key in fields:
            raise cursor.fail(f"metadata key '{key}' appears twice")
        fields[key] = GGUFField(value, type_id, item_id)
    return fields


def _parse(cursor: _Cursor, path: Path) -> TensorFile:
    tensor_count, field_count = _counts(cursor)
    fields = _fields(cursor, field_count)
    descriptions = [_description(cursor) for _ in range(tensor_count)]
    alignment = _alignment(fields, cursor)
    start = -(-cursor.at // alignment) * alignment
    tensors = tuple(_tensor(d, start, alignment, cursor) for d in descriptions)
    if len({t.name for t in tensors}) < len(tensors):
        raise FileFormatError("two tensors have one name", where=cursor.where)
    return TensorFile(path, "gguf", tensors, fields)


def _alignment(fields: dict[str, GGUFField], cursor: _Cursor) -> int:
    value = fields["general.alignment"].value if "general.alignment" in fields else DEFAULT_ALIGNMENT
    if not isinstance(value, int) or value <= 0 or value & (value - 1):
        raise cursor.fail(f"general.alignment is {value!r}, not a power of two")
    return value


def _description(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape (rows last in the file, so reversed), ggml type and offset of one tensor."""
    name = cursor.text("a tensor's name")
    dimensions = cursor.number("I", f"the dimensions of '{name}'")
    if dimensions > MAX_DIMENSIONS:
        raise cursor.fail(f"tensor '{name}' has {dimensions} dimensions")
    shape = tuple(cursor.number("Q", f"the shape of '{name}'") for _ in range(dimensions))[::-1]
    return name, shape, cursor.number("I", f"the type of '{name}'"), cursor.number("Q", f"the offset of '{name}'")


def _tensor(
    description: tuple[str, tuple[int, ...], int, int], start: int, alignment: int, cursor: _Cursor
) -> TensorInfo:
    import gguf  # constants only: ggml's type numbers and block sizes

    name, shape, type_id, offset = description
    row_bytes = 0
    try:
        if type_id in BESIDE:
            type_name, block, block_bytes, row_bytes = BESIDE[type_id]
        else:
            ggml_type = gguf.GGMLQuantizationType(type_id)
            type_name, (block, block_bytes) = ggml_type.name, gguf.GGML_QUANT_SIZES[ggml_type]
    except (ValueError, KeyError):
        what = (
            f"{type_id}, which is unknown" if type_id not in GONE else f"{GONE[type_id]} ({type_id}), which is not read"
        )
        raise FileFormatError(f"tensor '{name}' has type {what}", where=cursor.where) from None
    if shape and shape[-1] % block:
        message = f"tensor '{name}' has rows of {shape[-1]}, not whole {type_name} blocks of {block}"
        raise FileFormatError(message, where=cursor.where)
    nbytes = math.prod(shape) // block * block_bytes + math.prod(shape[:-1]) * row_bytes
    if offset % alignment or start + offset + nbytes > len(cursor.data):
        message = f"tensor '{name}' at byte {start + offset} needs {nbytes} bytes: the file has {len(cursor.data)}"
        raise FileFormatError(message, where=cursor.where)
    by_ggml = {codec.ggml: codec.name for codec in codecs().values() if codec.ggml}
    format_name = by_ggml.get(type_name) or _PLAIN.get(type_name) or type_name.lower()
    return TensorInfo(name, shape, format_name, start + offset, nbytes)
