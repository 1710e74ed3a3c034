"""Rows that time one operation: a matrix product, a softmax, an all-reduce, as their text gives its shape.

The operation is lowered to the operator that every prediction is made of and timed inside the engine, as a pass of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from waferline.errors import UnknownNameError, WaferlineError
from waferline.evidence import notes
from waferline.evidence.answer import Answer
from waferline.evidence.machines import machine
from waferline.evidence.names import engine_name, hardware_name, names, precision_of
from waferline.evidence.request import Refusal
from waferline.evidence.rows import Row
from waferline.formats import get_format, resolve
from waferline.machines.device import Device
from waferline.predict.efficiency.intervals import log_quantiles
from waferline.predict.engine import get_engine
from waferline.predict.roofline import machine_for, time_operator
from waferline.workloads.build import Builder
from waferline.workloads.operator import Operator

_SECONDS: Mapping[str, float] = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_PER_SECOND: Mapping[str, float] = {"GB/s": 1e9, "TFLOPS": 1e12}
_SIZE = re.compile(r"(\d+)\s*([kKMG]?)")
_BINARY = {"": 1, "k": 2**10, "K": 2**10, "M": 2**20, "G": 2**30}
_MESSAGE = re.compile(r"input_len: (\d+\s*[KMG]?)")
_DEVICES = re.compile(r"(\d+) (?:GPUs?|ranks?)")
_CORES_OF_GPU = re.compile(r"-\d+c$")  # of a chip whose CPU ran instead
# How much farther than kernels of 16 bits those of 32 lie, which no table of measured operators has: with it, 90 % of the rows on
# half of the machines are covered.
_WIDE_STRETCH = 3.0
_NARROW_BITS = 16
Found = tuple[Operator, float]  # with the FLOPs or bytes that a rate counts


def operation(row: Row) -> tuple[Answer, tuple[str, ...]] | Refusal | None:
    """(answer, what was assumed) of a row of one operation, or why there is none; None for a row of something else."""
    shape = _shape(row)
    if row.phase or row.kind != "measured" or shape is None:
        return None
    if row.unit not in _SECONDS and row.unit not in _PER_SECOND:
        return None
    named = _device(row)
    if isinstance(named, Refusal):
        return named
    device, where = named
    engine, why = engine_name(row, device.name, one_pass=True)
    formats = precision_of(row, engine)
    if isinstance(formats, Refusal):
        return formats
    build, numbers = shape
    together = build is _all_reduce
    counted = row.devices or _first(_DEVICES, row.cores_or_grid) or 1.0
    if counted > 1.0 and not together:
        return Refusal("parallelism", f"how {counted:g} devices share the operation is not stated")
    try:
        b = Builder(resolve(formats[0], device.arithmetic))
        op, work = build(b, [counted] if together else numbers, row)
        runs = "nccl" if together else get_engine(engine).kernels
        warm = op if together else replace(op, shape={**op.shape, "cache_warm": 1.0})
        timed = time_operator(warm, machine_for(device, runs), resident_bytes=warm.bytes)
    except WaferlineError as error:
        return Refusal(error.kind, str(error))
    seconds, light_s = float(timed.expected_s), float(timed.light_s)
    quantiles = log_quantiles(timed.record.residual, timed.expected_s)
    stretch = _WIDE_STRETCH if get_format(b.precision.activations).bits > _NARROW_BITS else 1.0
    ends = (max(seconds * float(np.exp(q * stretch)), light_s) for q in (quantiles[0], quantiles[-1]))
    times = (seconds, *ends, light_s)
    rate = row.unit in _PER_SECOND
    value, low, high, light = (work / s / _PER_SECOND[row.unit] if rate else s / _SECONDS[row.unit] for s in times)
    said = tuple(text for text in (where, why, formats[2]) if text)
    return Answer(value, min(low, high), max(low, high), light, timed.tier), said


def _device(row: Row) -> tuple[Device, str] | Refusal:
    """The machine at work: the chip's CPU where the engine says so."""
    on_cpu = row.engine in names()["on_cpu"]
    slug = f"{_CORES_OF_GPU.sub('', row.hardware)}-cpu" if on_cpu else row.hardware
    named = hardware_name(slug)
    if isinstance(named, Refusal):
        return named
    try:
        return machine(slug, notes.threads(row)), named[1]
    except UnknownNameError:
        return Refusal("hardware", f"the machine '{slug}' is not in the catalogue")


def _product(b: Builder, m: float, n: float, k: float, batch: float = 1.0) -> Found:
    """m x k by k x n; `batch` of them in one kernel, which reads and writes as much as their sum."""
    op = b.gemm("product", m, n * batch, k)
    more = (batch - 1.0) * m * k * b.residual_bytes
    return replace(op, activation_bytes=op.activation_bytes + more), 2.0 * batch * m * n * k


def _of_arrays(b: Builder, numbers: list[float], row: Row) -> Found:
    """`dim=100x1024x32 dim=32x1024`: leading sides of the left are rows, or, where the right has them too, products apart."""
    left, right = (_sides(text) for text in re.findall(r"dim=([\dx]+)", row.operation)[:2])
    batch = float(np.prod(right[:-2]))
    return _product(b, float(np.prod(left[:-1])) / batch, right[-1], right[-2], batch)


def _of_sides(b: Builder, numbers: list[float], row: Row) -> Found:
    m, n, k = numbers
    return _product(b, m, n, k)


def _weights_first(b: Builder, numbers: list[float], row: Row) -> Found:
    """`M=12288 N=1 K=4096`: M rows of weights meet N columns."""
    n, m, k = numbers
    return _product(b, m, n, k)


def _softmax(b: Builder, numbers: list[float], row: Row) -> Found:
    elements = float(np.prod(_sides(re.findall(r"dim=([\dx]+)", row.operation)[0])))
    return b.streaming("softmax", "softmax", elements, passes=2, flops_each=5), 5.0 * elements


def _all_reduce(b: Builder, numbers: list[float], row: Row) -> Found:
    """Of a message of so many bytes a device; its bus bandwidth counts what a ring would send."""
    (devices,) = numbers
    stated = _MESSAGE.search(row.notes)
    size = _bytes(stated[1]) if stated else row.input_tokens
    if size is None:
        raise UnknownNameError("the size of the message is not stated")
    sent = 2.0 * (devices - 1.0) / devices if row.metric == "busbw" else 1.0
    return b.collective("all_reduce", "all_reduce", float(size), devices), size * sent


def _sides(text: str) -> list[float]:
    return [float(side) for side in text.split("x")]


def _bytes(text: str) -> float:
    count, unit = _SIZE.fullmatch(text.strip()).groups()  # type: ignore[union-attr]
    return float(count) * _BINARY[unit]


def _first(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.search(text)
    return float(found[1]) if found else None


Build = Callable[[Builder, list[float], Row], Found]
_OPERATIONS: tuple[tuple[re.Pattern[str], Build], ...] = (
    (re.compile(r"(?:Linear|MatMul) / dim=[\dx]+ dim=[\dx]+.*"), _of_arrays),
    (re.compile(r"Softmax / dim=[\dx]+ axi=-1"), _softmax),
    (re.compile(r"GEMM (\d+)x(\d+)x(\d+)"), _of_sides),
    (re.compile(r"mpGEMV M=(\d+) N=(\d+) K=(\d+)"), _weights_first),
    (re.compile(r"all_reduce(?: sum)?"), _all_reduce),
)


def _shape(row: Row) -> tuple[Build, list[float]] | None:
    for pattern, build in _OPERATIONS:
        if found := pattern.fullmatch(row.operation):
            return build, [float(side) for side in found.groups()]
    return None
