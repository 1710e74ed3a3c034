"""Rewriting a tensor file in another format: which tensor becomes what, and the writing, all or nothing.

Matrices (two dimensions or more) of real numbers are quantised when their rows are whole blocks. Vectors (norms,
biases) are written in single precision, as llama.cpp keeps them; matrices whose rows do not divide in half precision;
integers as they are. The plan says which is which before anything is written.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError
from waferline.files import replacing
from waferline.formats import safetensors
from waferline.formats.codec import codec_for, codecs, encode, scale_from_magnitude
from waferline.formats.codecs.record import F32, U8, Codec
from waferline.formats.format import Format
from waferline.formats.parallel import ordered_map
from waferline.formats.reconstruction import ErrorStats, ErrorSums, add_roundtrip
from waferline.formats.tensors import SUFFIXES, TensorFile, TensorInfo, scale_name

GGML_QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION in ggml.h
_REPLACED = {"general.architecture", "general.quantization_version", "general.file_type"}
Progress = Callable[[str, int], None]  # tensor name, weights done since the last call


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one tensor: `target` is the format it is written in; `reason` says why it is not quantised."""

    source: TensorInfo
    target: str
    nbytes: int
    reason: str | None = None


def plan(file: TensorFile, format: str | Format, suffix: str) -> list[Step]:
    """What `convert` will do with every tensor of `file`, for an output named `*.gguf` or `*.safetensors`.

    Raises: UnsupportedError when that kind of file cannot hold the format, or the format cannot be encoded.
    """
    codec = codec_for(format)
    if suffix not in SUFFIXES:
        raise InvalidInputError(f"the output is a {' or '.join(SUFFIXES)} file, not '*{suffix}'")
    if codec.encode_rows is None:
        raise UnsupportedError(f"'{codec.name}' can be decoded, not encoded")
    if not _can_hold(codec.name, suffix):
        able = ", ".join(name for name, c in codecs().items() if c.encode_rows and _can_hold(name, suffix))
        raise UnsupportedError(f"a {suffix} file cannot hold {codec.name}", hint=f"it can hold {able}")
    folded = {scale.name for scale in map(file.scale_of, file.tensors) if scale}  # they are applied on reading
    return [_step(tensor, codec, suffix) for tensor in file.tensors if tensor.name not in folded]


def _can_hold(name: str, suffix: str) -> bool:
    if suffix == ".safetensors":
        return safetensors.can_hold(name)
    plain = ("f64", "i8", "i16", "i32", "i64")
    return name in plain or (name in codecs() and codecs()[name].ggml is not None)


def _step(tensor: TensorInfo, codec: Codec, suffix: str) -> Step:
    rows, cols = tensor.matrix()
    if not tensor.is_float:
        if not _can_hold(tensor.format, suffix):
            raise UnsupportedError(f"a {suffix} file cannot hold tensor '{tensor.name}' of type {tensor.format}")
        return Step(tensor, tensor.format, tensor.nbytes, "integers")
    if len(tensor.shape) < 2 or not rows or not cols:
        return Step(tensor, "fp32", 4 * tensor.weights, "a vector")
    if cols % codec.block:
        return Step(tensor, "fp16", 2 * tensor.weights, f"rows of {cols} are not whole blocks of {codec.block}")
    return Step(tensor, codec.name, rows * codec.row_bytes(cols))


def convert(
    file: TensorFile, steps: list[Step], output: str | Path, *, progress: Progress | None = None
) -> dict[str, ErrorStats]:
    """Write `steps` to `output`; nothing appears under that name until all of it is written. Returns the error of every
    quantised tensor.

    Raises: InvalidInputError when a tensor holds what the format cannot; FileFormatError when the output cannot be
    written or is the input itself.
    """
    output = Path(output)
    check_output(output, replace=True)
    if output.exists() and output.samefile(file.path):
        raise FileFormatError("the output is the input file", where=str(output))
    write = _write_gguf if output.suffix.lower() == ".gguf" else _write_safetensors
    errors: dict[str, ErrorStats] = {}
    with replacing(output) as own:
        write(file, steps, own, errors, progress or (lambda _name, _weights: None))
    return errors


def check_output(output: Path, *, replace: bool) -> None:
    """Refuse a path that cannot become the output before any work is done.

    Raises: FileFormatError when something is there (a file counts unless it may be replaced), or the path is impossible.
    """
    try:
        mode = output.stat().st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL byte
        raise FileFormatError(f"cannot be written: {getattr(error, 'strerror', error)}", where=str(output)) from None
    if not replace:
        raise FileFormatError("the output exists", where=str(output), hint="--force replaces it")
    if not stat.S_ISREG(mode):
        raise FileFormatError("cannot be written: it is no regular file", where=str(output))


def tensor_error(
    file: TensorFile, tensor: TensorInfo, format: str | Format, progress: Callable[[int], None] | None = None
) -> ErrorSums:
    """What storing one tensor of `file` in `format` would lose, a piece at a time.

    Raises: InvalidInputError when the format cannot hold it; UnsupportedError when it cannot be read or encoded.
    """
    codec = codec_for(format)
    sums = ErrorSums()
    if tensor.matrix()[1] % codec.block:  # before the pass that finds the scale
        raise InvalidInputError(
            f"rows of {tensor.matrix()[1]} weights are not whole {codec.name} blocks of {codec.block}"
        )
    scale = _scale(file, tensor, codec)

    def lose(piece: tuple[slice, F32]) -> ErrorSums:
        part = ErrorSums()
        add_roundtrip(part, piece[1], codec, scale)
        return part

    for part in ordered_map(lose, file.chunks(tensor)):
        sums.merge(part)
        if progress:
            progress(part.weights)
    return sums


def _scale(file: TensorFile, tensor: TensorInfo, codec: Codec) -> float | None:
    """The tensor scale that suits a tensor, from a pass over it; None for formats without one."""
    if codec.tensor_scale == "none":
        return None
    total, largest = 0.0, 0.0
    for _part, values in file.chunks(tensor):
        magnitude = np.abs(values)
        largest = max(largest, float(np.fmax.reduce(magnitude, axis=None, initial=0.0)))  # NaN is no magnitude
        total += float(magnitude.sum(dtype=np.float64))
    mean = total / max(tensor.weights, 1)
    return scale_from_magnitude(mean if codec.scale_rule == "mean" else largest, codec)


def _step_scale(file: TensorFile, step: Step) -> float | None:
    """The tensor scale a step is written with."""
    codec = codecs().get(step.target)
    return None if codec is None or step.reason else _scale(file, step.source, codec)


def _pieces(
    file: TensorFile, step: Step, scale: float | None, errors: dict[str, ErrorStats], progress: Progress
) -> Iterator[U8]:
    """The tensor's new bytes, a piece at a time; its error statistics are complete when the pieces are."""
    if step.target == step.source.format and scale is None:
        yield file.raw(step.source)
        progress(step.source.name, step.source.weights)
        return

    def rewrite(piece: tuple[slice, F32]) -> tuple[U8, ErrorSums, int]:
        part, values = piece
        sums = ErrorSums()
        try:
            data = encode(values, step.target, tensor_scale=scale)
        except InvalidInputError as error:
            where = f"tensor '{step.source.name}', rows from {part.start}"
            raise InvalidInputError(error.message, where=where, hint=error.hint) from None
        if step.reason is None:
            add_roundtrip(sums, values, codecs()[step.target], scale, data)
        return data, sums, values.size

    total = ErrorSums()
    for data, sums, weights in ordered_map(rewrite, file.chunks(step.source)):
        total.merge(sums)
        yield data
        progress(step.source.name, weights)
    if step.reason is None:
        errors[step.source.name] = total.stats()


def _write_safetensors(
    file: TensorFile, steps: list[Step], path: Path, errors: dict[str, ErrorStats], progress: Progress
) -> None:
    scales = {step.source.name: _step_scale(file, step) for step in steps}
    infos = []
    for step in steps:
        infos.append(TensorInfo(step.source.name, step.source.shape, step.target, 0, step.nbytes))
        if scales[step.source.name] is not None:
            infos.append(TensorInfo(scale_name(step.source.name, "safetensors"), (1,), "fp32", 0, 4))
    metadata = {k: v for k, v in file.metadata.items() if isinstance(v, str)}
    with path.open("wb") as out:
        out.write(safetensors.header_bytes(infos, metadata))
        for step in steps:
            scale = scales[step.source.name]
            for piece in _pieces(file, step, scale, errors, progress):
                out.write(np.ascontiguousarray(piece).tobytes())
            if scale is not None:
                out.write(np.array([scale], "<f4").tobytes())


def _write_gguf(
    file: TensorFile, steps: list[Step], path: Path, errors: dict[str, ErrorStats], progress: Progress
) -> None:
    import gguf

    architecture = file.metadata.get("general.architecture") if file.kind == "gguf" else None
    writer = gguf.GGUFWriter(None, architecture.value if architecture else "unknown")
    _copy_metadata(writer, file)
    writer.add_quantization_version(GGML_QUANTIZATION_VERSION)
    scales = {step.source.name: _step_scale(file, step) for step in steps}
    for step in steps:
        _describe(writer, step)
        if scales[step.source.name] is not None:
            writer.add_tensor_info(scale_name(step.source.name, "gguf"), (1,), np.dtype(np.float32), 4)
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for step in steps:
            scale = scales[step.source.name]
            streamed: Any = _Streamed(step.nbytes, _pieces(file, step, scale, errors, progress))
            writer.write_tensor_data(streamed)
            if scale is not None:
                writer.write_tensor_data(np.array([scale], np.float32))
        told = writer.fout[0].tell() if writer.fout else 0
    finally:
        writer.close()
    if path.stat().st_size < told:  # NumPy's `tofile` says nothing of a disk that is full at its end
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@dataclass(frozen=True, slots=True)
class _Streamed:
    """A tensor that passes through the GGUF writer, which asks an array for these two, a piece at a time."""

    nbytes: int
    pieces: Iterator[Any]

    def tofile(self, out: Any) -> None:
        for piece in self.pieces:
            np.ascontiguousarray(piece).tofile(out)


def _copy_metadata(writer: Any, file: TensorFile) -> None:
    import gguf

    for key, field in file.metadata.items():
        if file.kind == "safetensors":
            writer.add_string(f"safetensors.{key}", field)
        elif key not in _REPLACED:
            item = None if field.item_id is None else gguf.GGUFValueType(field.item_id)
            writer.add_key_value(key, field.value, gguf.GGUFValueType(field.type_id), item)


def _describe(writer: Any, step: Step) -> None:
    """Announce one tensor to the writer, whose shapes of block formats are in bytes."""
    import gguf

    plain = {"fp32": np.float32, "fp16": np.float16, "f64": np.float64, "i8": np.int8, "i16": np.int16}
    plain |= {"i32": np.int32, "i64": np.int64}
    shape = step.source.shape or (1,)
    if step.target in plain:
        writer.add_tensor_info(step.source.name, shape, np.dtype(plain[step.target]), step.nbytes)
        return
    codec = codecs()[step.target]
    byte_shape = (*shape[:-1], codec.row_bytes(shape[-1]))
    raw_type = gguf.GGMLQuantizationType[codec.ggml or ""]
    writer.add_tensor_info(step.source.name, byte_shape, np.dtype(np.uint8), step.nbytes, raw_dtype=raw_type)
