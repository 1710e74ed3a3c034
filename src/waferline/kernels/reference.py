"""What the kernels must compute, written as plainly as NumPy allows, in f64. Slow, obvious, and used by the tests."""

from __future__ import annotations

import numpy as np

from waferline.formats.codec import decode

BLOCK = {"q8_k": 256, "q8_0": 32}  # columns that share a scale in int8 activations
_GROUPS = {"Q4_K": "q8_k", "Q5_K": "q8_k", "Q6_K": "q8_k", "TQ2_0": "q8_k", "Q8_0": "q8_0", "Q4_0": "q8_0"}


def dequantise(data: np.ndarray, format: str, rows: int, cols: int) -> np.ndarray:
    """The weights of GGUF bytes, f64 (rows, cols)."""
    return decode(np.asarray(data).reshape(rows, -1), format.lower(), (rows, cols)).astype(np.float64)


def quantise_activations(x: np.ndarray, format: str) -> np.ndarray:
    """The activations an int8 kernel really multiplies with, f64: rounded symmetrically to 127 steps per block.

    The rounding is done in f32 with the reciprocal, as the kernels do; float formats leave x alone.
    """
    kind = _GROUPS.get(format.upper())
    if kind is None:
        return x.astype(np.float64)
    blocks = x.reshape(x.shape[0], -1, BLOCK[kind]).astype(np.float32)
    top = np.abs(blocks).max(-1, keepdims=True)
    usable = top > np.float32(2.0**-118)
    inverse = np.where(usable, np.float32(127) / np.where(usable, top, np.float32(1)), np.float32(0))
    codes = np.rint(blocks * inverse)
    return (codes.astype(np.float64) * (top / np.float32(127))).reshape(x.shape)


def matmul(data: np.ndarray, format: str, rows: int, cols: int, x: np.ndarray, *, exact: bool = False) -> np.ndarray:
    """x (n, cols) times the transposed weights: f64 (n, rows)."""
    activations = x.astype(np.float64) if exact else quantise_activations(x, format)
    return activations @ dequantise(data, format, rows, cols).T


def softmax(x: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, f64."""
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, position: int) -> np.ndarray:
    """Causal attention: q (n, heads, d), k and v (tokens, key heads, d) -> f64 (n, heads, d)."""
    n, heads, d = q.shape
    group = heads // k.shape[1]
    out = np.empty((n, heads, d))
    for t in range(n):
        for h in range(heads):
            keys, values = (a[: position + t + 1, h // group].astype(np.float64) for a in (k, v))
            out[t, h] = softmax(keys @ q[t, h].astype(np.float64) / np.sqrt(d)) @ values
    return out


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """x / rms(x) * weight over the last axis, f64."""
    x = x.astype(np.float64)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """gate * sigmoid(gate) * up, f64."""
    gate = gate.astype(np.float64)
    with np.errstate(over="ignore"):  # exp(-gate) is infinity for very negative gates, and the quotient then zero
        return gate / (1 + np.exp(-gate)) * up


def rope(x: np.ndarray, position: int, base: float, halves: bool) -> np.ndarray:
    """Rotary positions on x (tokens, heads, d) as a complex rotation, f64."""
    tokens, _, d = x.shape
    x = x.astype(np.float64)
    angle = (position + np.arange(tokens))[:, None] * base ** (-np.arange(0, d, 2) / d)
    turn = np.exp(1j * angle)[:, None]
    pairs = x[..., : d // 2] + 1j * x[..., d // 2 :] if halves else x[..., 0::2] + 1j * x[..., 1::2]
    turned = pairs * turn
    out = np.empty_like(x)
    if halves:
        out[..., : d // 2], out[..., d // 2 :] = turned.real, turned.imag
    else:
        out[..., 0::2], out[..., 1::2] = turned.real, turned.imag
    return out
