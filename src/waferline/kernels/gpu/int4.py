"""INT4 group-wise matrix products (GPTQ, AWQ style: a scale and a zero point a group), dequantisation fused.

Codes lie two a byte along the columns, the even column in the low nibble. value = scale * (code - zero).
"""

# mypy: allow-untyped-defs
# Triton reads its kernels as source and knows no annotation but constexpr.
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from waferline.errors import InvalidInputError

_LEAST_M, _TILE_N, _TILE_BYTES = 16, 64, 32  # a tile of columns is 32 bytes: 64 codes
_MOST_CODE = 15


@dataclass(frozen=True, slots=True)
class Int4Matrix:
    """codes u8[rows, cols/2]; scales and zeros f16[rows, cols/group]."""

    codes: Any
    scales: Any
    zeros: Any
    group: int

    @property
    def bytes(self) -> int:
        """What one product has to read of the weights."""
        return int(sum(t.numel() * t.element_size() for t in (self.codes, self.scales, self.zeros)))


def quantise(weights: Any, group: int = 128) -> Int4Matrix:
    """Round float weights (rows, cols) to INT4, a group's range on 0..15. Raises: InvalidInputError for odd groups."""
    rows, cols = weights.shape
    if group % (2 * _TILE_BYTES) or cols % group:
        raise InvalidInputError(
            f"{cols} columns in groups of {group}", hint=f"groups of a multiple of {2 * _TILE_BYTES}"
        )
    grouped = weights.float().reshape(rows, cols // group, group)
    low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
    scales = ((high - low) / _MOST_CODE).clamp(min=1e-8).half()
    zeros = torch.round(-low / scales.float()).clamp(0, _MOST_CODE).half()
    codes = torch.round(grouped / scales.float()[..., None] + zeros.float()[..., None]).clamp(0, _MOST_CODE)
    codes = codes.to(torch.uint8).reshape(rows, cols)
    return Int4Matrix((codes[:, 0::2] | (codes[:, 1::2] << 4)).contiguous(), scales, zeros, group)


def dequantise(matrix: Int4Matrix) -> Any:
    """The weights as f32 (rows, cols): the plain reference."""
    codes = torch.stack((matrix.codes & 15, matrix.codes >> 4), -1).reshape(matrix.codes.shape[0], -1).float()
    spread = lambda t: t.float().repeat_interleave(matrix.group, 1)  # noqa: E731
    return spread(matrix.scales) * (codes - spread(matrix.zeros))


@triton.jit
def gemv_kernel(
    codes, scales, zeros, x, y, rows, half, GROUP: tl.constexpr, ROWS: tl.constexpr,
    BYTES: tl.constexpr,
):  # fmt: skip
    """y[ROWS] = W[ROWS, :] · x in f32; `half` bytes of codes a row."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    total = tl.zeros((ROWS,), tl.float32)
    groups = half * 2 // GROUP
    for start in range(0, half, BYTES):
        byte = start + tl.arange(0, BYTES)
        inside = (row < rows)[:, None] & (byte < half)[None, :]
        packed = tl.load(codes + row[:, None] * half + byte[None, :], mask=inside, other=0).to(tl.int32)
        at = row[:, None] * groups + (byte * 2 // GROUP)[None, :]
        scale = tl.load(scales + at, mask=inside, other=0.0).to(tl.float32)
        zero = tl.load(zeros + at, mask=inside, other=0.0).to(tl.float32)
        even = tl.load(x + 2 * byte, mask=byte < half, other=0.0).to(tl.float32)[None, :]
        odd = tl.load(x + 2 * byte + 1, mask=byte < half, other=0.0).to(tl.float32)[None, :]
        low = scale * ((packed & 15).to(tl.float32) - zero)
        high = scale * ((packed >> 4).to(tl.float32) - zero)
        total += tl.sum(low * even + high * odd, axis=1)
    tl.store(y + row, total, mask=row < rows)


@triton.jit
def gemm_kernel(
    codes, scales, zeros, x, y, m, rows, half, GROUP: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    """y[M, N] = x[M, :] · W[N, :]ᵀ: even and odd columns are two products, so no nibble is ever moved."""
    i = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)
    row = (tl.program_id(1) * N + tl.arange(0, N)).to(tl.int64)
    some, inside = (i < m)[:, None], (row < rows)[:, None]
    groups = half * 2 // GROUP
    total = tl.zeros((M, N), tl.float32)
    for start in range(0, half, BYTES):
        byte = (start + tl.arange(0, BYTES))[None, :]
        packed = tl.load(codes + row[:, None] * half + byte, mask=inside, other=0).to(tl.int32)
        at = row[:, None] * groups + start * 2 // GROUP
        scale = tl.load(scales + at, mask=inside, other=0.0).to(tl.float32)
        zero = tl.load(zeros + at, mask=inside, other=0.0).to(tl.float32)
        low = (scale * ((packed & 15).to(tl.float32) - zero)).to(tl.float16)
        high = (scale * ((packed >> 4).to(tl.float32) - zero)).to(tl.float16)
        x_at = x + i[:, None] * (half * 2) + 2 * byte
        total += tl.dot(tl.load(x_at, mask=some, other=0.0).to(tl.float16), tl.trans(low))
        total += tl.dot(tl.load(x_at + 1, mask=some, other=0.0).to(tl.float16), tl.trans(high))
    tl.store(y + i[:, None] * rows + row[None, :], total, mask=some & (row < rows)[None, :])


def matmul(matrix: Int4Matrix, x: Any, *, rows_per_program: int = 4) -> Any:
    """y = x · Wᵀ, f32; x float (cols,) or (m, cols) on the weights' device.

    One column sums in f32; more go through the tensor cores in f16 with f32 sums.
    Raises: InvalidInputError for shapes that disagree.
    """
    rows, half = matrix.codes.shape
    batch = x.reshape(-1, x.shape[-1]).contiguous()
    m, cols = batch.shape
    if cols != 2 * half:
        raise InvalidInputError(f"{2 * half} columns of weights with x {tuple(x.shape)}", where="int4")
    y = torch.empty((m, rows), dtype=torch.float32, device=matrix.codes.device)
    parts = (matrix.codes, matrix.scales, matrix.zeros, batch, y)
    if m == 1:
        gemv_kernel[(triton.cdiv(rows, rows_per_program),)](
            *parts, rows, half, GROUP=matrix.group, ROWS=rows_per_program, BYTES=256
        )
    else:
        tile_m = max(_LEAST_M, min(64, triton.next_power_of_2(m)))
        grid = (triton.cdiv(m, tile_m), triton.cdiv(rows, _TILE_N))
        gemm_kernel[grid](*parts, m, rows, half, GROUP=matrix.group, M=tile_m, N=_TILE_N, BYTES=_TILE_BYTES)
    return y.reshape(*x.shape[:-1], rows)
