"""Q4_K matrix products with the dequantisation fused: GGUF blocks are read as they lie, no f16 copy is ever made.

A block of 256 weights is 144 bytes (ggml-common.h, `block_q4_K`): f16 d, f16 dmin, twelve bytes of 6-bit scales and mins
for eight sub-blocks of 32, then 128 bytes of codes, chunk c holding sub-block 2c in its low nibbles and 2c+1 in its high.
Value = d * scale * code - dmin * min.
"""

# mypy: allow-untyped-defs
# Triton reads its kernels as source and knows no annotation but constexpr.
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from waferline.errors import InvalidInputError

BLOCK_WEIGHTS, BLOCK_BYTES = 256, 144
_SCALES_AT, _CODES_AT = 4, 16
_LEAST_M = 16  # rows of a tensor-core tile


@triton.jit
def _scale_and_min(block, sub, mask):
    """6-bit scale and min of sub-blocks `sub` (0..7) of the blocks at byte pointers `block`; shapes broadcast."""
    high = sub >= 4
    low_at = tl.where(high, sub - 4, sub)
    a = tl.load(block + 4 + low_at, mask=mask, other=0).to(tl.int32)
    b = tl.load(block + 8 + low_at, mask=mask, other=0).to(tl.int32)
    c = tl.load(block + 12 + low_at, mask=mask, other=0).to(tl.int32)
    scale = tl.where(high, (c & 15) | ((a >> 6) << 4), a & 63)
    least = tl.where(high, (c >> 4) | ((b >> 6) << 4), b & 63)
    return scale.to(tl.float32), least.to(tl.float32)


@triton.jit
def gemv_kernel(weights, halves, x, y, rows, blocks, ROWS: tl.constexpr):
    """y[ROWS] = W[ROWS, :] · x for one program's rows; codes (ROWS, 128) a block, sums in f32."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (row < rows)[:, None]
    byte = tl.arange(0, 128)[None, :]  # of a block's codes
    chunk = byte // 32
    k_low = chunk * 64 + byte % 32  # column of the low nibble; the high one is 32 further
    total = tl.zeros((ROWS,), tl.float32)
    for b in range(blocks):
        at = (row.to(tl.int64) * blocks + b)[:, None]
        block = weights + at * 144
        d = tl.load(halves + at * 72, mask=inside, other=0.0).to(tl.float32)
        dmin = tl.load(halves + at * 72 + 1, mask=inside, other=0.0).to(tl.float32)
        codes = tl.load(block + 16 + byte, mask=inside, other=0).to(tl.int32)
        x_low = tl.load(x + b * 256 + k_low).to(tl.float32)
        x_high = tl.load(x + b * 256 + k_low + 32).to(tl.float32)
        scale, least = _scale_and_min(block, 2 * chunk, inside)
        low = (d * scale) * (codes & 15).to(tl.float32) - dmin * least
        scale, least = _scale_and_min(block, 2 * chunk + 1, inside)
        high = (d * scale) * (codes >> 4).to(tl.float32) - dmin * least
        total += tl.sum(low * x_low + high * x_high, axis=1)
    tl.store(y + row, total, mask=row < rows)


@triton.jit
def gemm_kernel(weights, halves, x, y, m, rows, blocks, M: tl.constexpr, N: tl.constexpr):
    """y[M, N] = x[M, :] · W[N, :]ᵀ: sub-blocks of 32 columns are decoded to f16 and go through the tensor cores."""
    i = tl.program_id(0) * M + tl.arange(0, M)
    row = tl.program_id(1) * N + tl.arange(0, N)
    inside = (row < rows)[:, None]
    some = (i < m)[:, None]
    k = tl.arange(0, 32)[None, :]
    cols = blocks * 256
    total = tl.zeros((M, N), tl.float32)
    for b in range(blocks):
        at = (row.to(tl.int64) * blocks + b)[:, None]
        block = weights + at * 144
        d = tl.load(halves + at * 72, mask=inside, other=0.0).to(tl.float32)
        dmin = tl.load(halves + at * 72 + 1, mask=inside, other=0.0).to(tl.float32)
        for chunk in range(4):
            codes = tl.load(block + 16 + chunk * 32 + k, mask=inside, other=0).to(tl.int32)
            x_at = x + i.to(tl.int64)[:, None] * cols + b * 256 + chunk * 64 + k
            scale, least = _scale_and_min(block, 2 * chunk + tl.zeros_like(k), inside)
            low = ((d * scale) * (codes & 15).to(tl.float32) - dmin * least).to(tl.float16)
            total += tl.dot(tl.load(x_at, mask=some, other=0.0).to(tl.float16), tl.trans(low))
            scale, least = _scale_and_min(block, 2 * chunk + 1 + tl.zeros_like(k), inside)
            high = ((d * scale) * (codes >> 4).to(tl.float32) - dmin * least).to(tl.float16)
            total += tl.dot(tl.load(x_at + 32, mask=some, other=0.0).to(tl.float16), tl.trans(high))
    tl.store(y + i.to(tl.int64)[:, None] * rows + row[None, :], total, mask=some & (row < rows)[None, :])


def matmul(weights: Any, x: Any, *, rows_per_program: int = 4) -> Any:
    """y = x · Wᵀ, f32.

    weights: u8[rows, blocks * 144] GGUF bytes on the device. x: float (cols,) or (m, cols) there; f32 sums for one
    column, f16 products with f32 sums for more. Returns f32 (rows,) or (m, rows).
    Raises: InvalidInputError for shapes that disagree.
    """
    rows, row_bytes = weights.shape
    batch = x.reshape(-1, x.shape[-1])
    m, cols = batch.shape
    if weights.dtype != torch.uint8 or row_bytes % BLOCK_BYTES or cols * BLOCK_BYTES != row_bytes * BLOCK_WEIGHTS:
        raise InvalidInputError(
            f"weights {tuple(weights.shape)} of {weights.dtype} with x {tuple(x.shape)}", where="q4_k"
        )
    weights, batch = weights.contiguous(), batch.contiguous()
    halves = weights.view(torch.float16)
    y = torch.empty((m, rows), dtype=torch.float32, device=weights.device)
    blocks = row_bytes // BLOCK_BYTES
    if m == 1:
        grid = (triton.cdiv(rows, rows_per_program),)
        gemv_kernel[grid](weights, halves, batch, y, rows, blocks, ROWS=rows_per_program)
    else:
        tile_m, tile_n = max(_LEAST_M, min(64, triton.next_power_of_2(m))), 32
        gemm_kernel[(triton.cdiv(m, tile_m), triton.cdiv(rows, tile_n))](
            weights, halves, batch, y, m, rows, blocks, M=tile_m, N=tile_n
        )
    return y.reshape(*x.shape[:-1], rows)
