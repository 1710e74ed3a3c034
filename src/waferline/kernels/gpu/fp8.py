"""FP8 (E4M3) matrix product with a scale a row of activations and a row of weights, as vLLM's `w8a8` and DeepGEMM use."""

# mypy: allow-untyped-defs
# Triton reads its kernels as source and knows no annotation but constexpr.
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from waferline.errors import InvalidInputError, UnsupportedError

_LARGEST = 448.0  # of E4M3 without infinities (OCP OFP8, table 1)
_TILE_N, _TILE_K, _LEAST_M = 64, 64, 16
_FIRST_WITH_FP8 = (8, 9)  # CUDA capability: Ada; Hopper is 9.0


def quantise(values: Any) -> tuple[Any, Any]:
    """Float (rows, cols) as (e4m3 of the same shape, f32 scales[rows]); rows of zeros get scale 1."""
    scales = values.float().abs().amax(-1) / _LARGEST
    scales = torch.where(scales > 0, scales, torch.ones_like(scales))
    return (values.float() / scales[:, None]).to(torch.float8_e4m3fn), scales


def check_supported(device: Any) -> None:
    """Raises: UnsupportedError when the GPU has no FP8 arithmetic (before Ada)."""
    if device.type == "cuda" and torch.version.cuda and torch.cuda.get_device_capability(device) < _FIRST_WITH_FP8:
        raise UnsupportedError(f"{torch.cuda.get_device_name(device)} has no fp8 arithmetic", hint="use int4 or q4_k")


@triton.jit
def gemm_kernel(
    x, w, x_scales, w_scales, y, m, n, k, M: tl.constexpr, N: tl.constexpr,
    K: tl.constexpr,
):  # fmt: skip
    """y[M, N] = (x[M, :] · w[N, :]ᵀ) * scales, sums in f32."""
    i = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)
    j = (tl.program_id(1) * N + tl.arange(0, N)).to(tl.int64)
    total = tl.zeros((M, N), tl.float32)
    for start in range(0, k, K):
        c = start + tl.arange(0, K)
        a = tl.load(x + i[:, None] * k + c[None, :], mask=(i < m)[:, None] & (c < k)[None, :], other=0.0)
        b = tl.load(w + j[None, :] * k + c[:, None], mask=(j < n)[None, :] & (c < k)[:, None], other=0.0)
        total = tl.dot(a, b, total)
    scale = (
        tl.load(x_scales + i, mask=i < m, other=0.0)[:, None] * tl.load(w_scales + j, mask=j < n, other=0.0)[None, :]
    )
    tl.store(y + i[:, None] * n + j[None, :], total * scale, mask=(i < m)[:, None] & (j < n)[None, :])


def matmul(x: Any, x_scales: Any, weights: Any, w_scales: Any) -> Any:
    """y f32[m, n] = x e4m3[m, k] · weights e4m3[n, k]ᵀ with f32 row scales.

    Raises: InvalidInputError for shapes that disagree, UnsupportedError without FP8 arithmetic.
    """
    (m, k), (n, k2) = x.shape, weights.shape
    if k != k2 or x_scales.shape != (m,) or w_scales.shape != (n,):
        raise InvalidInputError(f"x {tuple(x.shape)} and weights {tuple(weights.shape)} do not multiply", where="fp8")
    check_supported(x.device)
    y = torch.empty((m, n), dtype=torch.float32, device=x.device)
    tile_m = max(_LEAST_M, min(64, triton.next_power_of_2(m)))
    grid = (triton.cdiv(m, tile_m), triton.cdiv(n, _TILE_N))
    gemm_kernel[grid](
        x.contiguous(), weights.contiguous(), x_scales, w_scales, y, m, n, k, M=tile_m, N=_TILE_N, K=_TILE_K
    )
    return y
