"""Matrix products on packed weights: gemv and gemm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from waferline.errors import UnsupportedError
from waferline.formats import get_format
from waferline.formats.codec import decode, encode, row_bytes, tensor_scale_for
from waferline.kernels.cpu import Matmul, pack, packed_bytes
from waferline.kernels.cpu.aligned import aligned_empty
from waferline.kernels.cpu.lut import CHUNK_K, MAX_BITS, matvec, pack_codes
from waferline.kernels.cpu.tiles import tile_of
from waferline.measure.caches import caches
from waferline.measure.contract import Check, Outcome, relative_error
from waferline.measure.engine import Cpu, Plan, foresee_memory, measure
from waferline.measure.fingerprint import free_memory_bytes
from waferline.measure.operators.request import OperatorRequest

# Rows that are really quantised, checked against, and repeated to fill the matrix: quantising 10**8 weights takes a
# minute and changes no timing, because the kernels never look at values.
SAMPLE_ROWS = 64
# Allowed distance from decoded weights times exact activations. int8 activations, one scale per 256, keep 7 bits of the
# largest: about 7e-3 of the result's norm, up to three times that in the worst element.
TOLERANCE = {"int8": 0.03, "exact": 1e-4}
COLD_BYTES = 256 * 2**20  # weights in rotation at least, and twice the last cache
_TOGETHER = 32  # products of one column in a call, fewer of more: then what calling costs no longer counts
_MOST_COLD_BYTES = 2**30
_MEMORY_SHARE = 4
_SEED = 20260101

_GGUF_NAMES = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}


def kernel_format(name: str) -> str:
    """The name a catalogue format has among the kernels. Raises: UnsupportedError naming the formats with kernels."""
    canonical = get_format(name).name
    return tile_of(_GGUF_NAMES.get(canonical, canonical)).name


def measure_matrix(request: OperatorRequest, plan: Plan) -> Outcome:
    """Time y = x·Wᵀ for a (rows, cols) matrix and `batch` columns.

    Raises: DoesNotFitError before allocating what does not fit, UnsupportedError for a format without a kernel.
    """
    rows, cols = request.shape
    kind = kernel_format(request.format)
    matrix_bytes = packed_bytes(kind, rows, cols)
    source_bytes = row_bytes(request.format, cols) * rows
    foresee_memory(2 * matrix_bytes + source_bytes + 4 * request.batch * (rows + 3 * cols), request.label)
    sample, decoded = _sample(request.format, min(rows, SAMPLE_ROWS), cols)
    matrix = pack(np.resize(sample, (rows, sample.shape[1])), kind, (rows, cols))
    weights = _copies(matrix.data, request.cold, max(1, _TOGETHER // request.batch))
    x = np.random.default_rng(_SEED + 1).standard_normal((request.batch, cols)).astype(np.float32)
    product = Matmul(matrix, request.batch, request.threads)
    wanted = x.astype(np.float64) @ decoded.astype(np.float64).T
    tolerance = TOLERANCE["exact" if product.exact else "int8"]

    def run(which: int) -> Any:
        return product.in_turn(weights[which], x)

    def check(y: Any) -> Check:
        checked = y[:, : decoded.shape[0]]
        error = relative_error(checked, wanted)
        checked.fill(np.nan)  # the next product has to be written anew
        return Check("decoded weights times exact activations, in f64", error, tolerance)

    return measure(
        run,
        name=request.label,
        check=check,
        inputs=lambda call: (call % len(weights),),
        device=Cpu(request.threads),
        plan=plan,
        work={"flops": 2.0 * request.batch * rows * cols, "bytes": float(source_bytes)},
        detail={
            **request.detail(
                weight_format=get_format(request.format).name,
                activation_format="fp32" if product.exact else "int8",
            ),
            "weights_in_rotation_bytes": weights.nbytes,
        },
        times=weights.shape[1],
    )


def measure_look_up(request: OperatorRequest, plan: Plan) -> Outcome:
    """Time one product by table look-up: the table of the activations is built in every call, as in a model.

    Codes of as many whole bits as the format has, random ones with a scale and an offset for each group of 32.

    Raises: UnsupportedError for several columns or wide weights; as `measure_matrix`.
    """
    rows, cols = request.shape
    bits = int(get_format(request.format).bits)
    if request.batch != 1:
        raise UnsupportedError("look-ups multiply one column", where="batch", hint="--batch 1")
    if bits > MAX_BITS or cols % CHUNK_K:
        raise UnsupportedError(f"look-ups take 1 to {MAX_BITS} bits and a multiple of {CHUNK_K} columns", where="shape")
    foresee_memory(16.0 * rows * cols + COLD_BYTES, request.label)
    random = np.random.default_rng(_SEED)
    codes = random.integers(0, 1 << bits, (min(rows, SAMPLE_ROWS), cols))
    scale = random.uniform(0.5, 1.0, (rows, cols // CHUNK_K)).astype(np.float32) / np.float32(cols**0.5)
    offset = -scale * np.float32(2 ** (bits - 1))
    matrix = pack_codes(np.resize(codes, (rows, cols)), bits, scale, offset)
    tiles = _copies(matrix.tiles, request.cold, 1)
    turns = [replace(matrix, tiles=one) for one in tiles[:, 0]]
    x = random.standard_normal(cols).astype(np.float32)
    wide = [np.repeat(part[: len(codes)].astype(np.float64), CHUNK_K, axis=1) for part in (scale, offset)]
    wanted = (codes * wide[0] + wide[1]) @ x.astype(np.float64)

    def check(y: Any) -> Check:
        return Check("its weights in f64", relative_error(y[: len(codes)], wanted), TOLERANCE["exact"])

    return measure(
        lambda which: matvec(turns[which], x, threads=request.threads),
        name=request.label,
        check=check,
        inputs=lambda call: (call % len(turns),),
        device=Cpu(request.threads),
        plan=plan,
        work={"flops": 2.0 * rows * cols, "bytes": float(matrix.code_bytes + scale.nbytes + offset.nbytes)},
        detail={
            **request.detail(weight_format=get_format(request.format).name, activation_format="fp32"),
            "weights_in_rotation_bytes": tiles.nbytes,
        },
    )


def _sample(fmt: str, rows: int, cols: int) -> tuple[np.ndarray, np.ndarray]:
    """(bytes u8[rows, row bytes], their decoded values f32[rows, cols]) of random weights."""
    weights = np.random.default_rng(_SEED).standard_normal((rows, cols)).astype(np.float32) / np.float32(cols**0.5)
    scale = tensor_scale_for(weights, fmt)
    used = None if scale == 1.0 else scale
    data = encode(weights, fmt, tensor_scale=used)
    return np.ascontiguousarray(data).view(np.uint8).reshape(rows, -1), decode(
        data, fmt, (rows, cols), tensor_scale=used
    )


def _copies(weights: np.ndarray, cold: bool, together: int) -> np.ndarray:
    """u8[calls, matrices a call, bytes]: copies of the weights, so many that by the time one comes round again no cache
    holds it, multiplied up to `together` in a call; or, warm, the one that stays."""
    wanted = 1.0
    if cold:
        last = max((c.bytes for c in caches()), default=0)
        free = free_memory_bytes()
        wanted = min(max(COLD_BYTES, 2 * last), _MOST_COLD_BYTES, free // _MEMORY_SHARE) / weights.nbytes
    count = 1 + max(0, int(wanted))
    together = min(together, count) if cold else 1
    calls = max(1, count // together)
    data = aligned_empty(calls * together * weights.nbytes).reshape(calls, together, -1)
    data[:] = weights
    return data
