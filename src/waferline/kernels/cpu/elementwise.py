"""The small operators between the matrix products: RMSNorm, rotary positions, SwiGLU, residual addition."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError
from waferline.kernels.cpu.exponential import exp
from waferline.kernels.cpu.jit import jit
from waferline.kernels.cpu.simd import LANES, add, div, load_f32, mul, spread, store_f32, sub


@jit(fast=True)
def _sum_of_squares(x: Any) -> Any:
    total = np.float32(0.0)
    for i in range(x.size):
        total += x[i] * x[i]
    return total


@jit
def rms_norm_rows(x: Any, weight: Any, eps: float, y: Any, first: int, last: int) -> None:
    """Rows first ... last-1: y = x / sqrt(mean(x**2) + eps) * weight. x, y f32[n, d]; weight f32[d]; y may be x."""
    whole = x.shape[1] // LANES * LANES
    for r in range(first, last):
        row, out = x[r], y[r]
        inverse = np.float32(1.0) / np.sqrt(_sum_of_squares(row) / np.float32(row.size) + np.float32(eps))
        factor = spread(inverse)
        for i in range(0, whole, LANES):
            store_f32(out, i * 4, mul(mul(load_f32(row, i * 4), factor), load_f32(weight, i * 4)))
        for i in range(whole, row.size):
            out[i] = row[i] * inverse * weight[i]


@jit
def rope_rows(
    x: Any, heads: int, head_dim: int, position: int, cos: Any, sin: Any, halves: bool, first: int, last: int
) -> None:
    """Rotate in place the leading `heads` heads of rows first ... last-1; row r stands at `position` + r.

    cos, sin f32[positions, rotated/2]. `halves` pairs element i with i + rotated/2 (Qwen, NeoX); otherwise 2i with 2i + 1
    (Llama in GGUF). Elements of a head beyond `rotated` are left alone.
    """
    pairs = cos.shape[1]
    for r in range(first, last):
        c, s = cos[position + r], sin[position + r]
        for h in range(heads):
            head = x[r, h * head_dim : (h + 1) * head_dim]
            if halves:
                for i in range(pairs):
                    u, v = head[i], head[i + pairs]
                    head[i] = u * c[i] - v * s[i]
                    head[i + pairs] = u * s[i] + v * c[i]
            else:
                for i in range(pairs):
                    u, v = head[2 * i], head[2 * i + 1]
                    head[2 * i] = u * c[i] - v * s[i]
                    head[2 * i + 1] = u * s[i] + v * c[i]


@jit
def swiglu_row(gate: Any, up: Any, y: Any) -> None:
    """y = gate / (1 + exp(-gate)) * up for contiguous f32[n]."""
    whole = y.size // LANES * LANES
    one, zero = spread(np.float32(1.0)), spread(np.float32(0.0))
    for i in range(0, whole, LANES):
        g = load_f32(gate, i * 4)
        store_f32(y, i * 4, mul(div(g, add(one, exp(sub(zero, g)))), load_f32(up, i * 4)))
    for i in range(whole, y.size):
        y[i] = gate[i] / (np.float32(1.0) + np.float32(np.exp(-gate[i]))) * up[i]


@jit
def geglu_row(gate: Any, up: Any, y: Any) -> None:
    """y = gelu(gate) * up for contiguous f32[n], with GELU's tanh form: gate * sigmoid(2 sqrt(2/pi) (gate + 0.044715 gate**3))."""
    whole = y.size // LANES * LANES
    one, cubed, slope = spread(np.float32(1.0)), spread(np.float32(0.044715)), spread(np.float32(-_GELU))
    for i in range(0, whole, LANES):
        g = load_f32(gate, i * 4)
        turned = mul(slope, mul(g, add(one, mul(cubed, mul(g, g)))))
        store_f32(y, i * 4, mul(div(g, add(one, exp(turned))), load_f32(up, i * 4)))
    for i in range(whole, y.size):
        g = gate[i]
        turned = np.float32(_GELU) * g * (np.float32(1.0) + np.float32(0.044715) * g * g)
        y[i] = g / (np.float32(1.0) + np.float32(np.exp(-turned))) * up[i]


@jit
def clamped_row(gate: Any, up: Any, y: Any) -> None:
    """y = g sigmoid(1.702 g) (u + 1) with g = min(gate, 7) and u within -7 ... 7, as gpt-oss has it."""
    for i in range(y.size):
        g, u = min(gate[i], _CLAMP), min(max(up[i], -_CLAMP), _CLAMP)
        y[i] = g / (np.float32(1.0) + np.float32(np.exp(_STEEP * g))) * (u + np.float32(1.0))


_GELU, _CLAMP, _STEEP = 2 * (2 / math.pi) ** 0.5, np.float32(7.0), np.float32(-1.702)


@jit
def add_rows(x: Any, y: Any, first: int, last: int) -> None:
    """x += y, rows first ... last-1; y may be wider."""
    whole = x.shape[1] // LANES * LANES
    for r in range(first, last):
        row, more = x[r], y[r]
        for i in range(0, whole, LANES):
            store_f32(row, i * 4, add(load_f32(row, i * 4), load_f32(more, i * 4)))
        for i in range(whole, row.size):
            row[i] += more[i]


def rms_norm(x: np.ndarray, weight: np.ndarray, *, eps: float = 1e-5) -> np.ndarray:
    """x (..., d) f32 normalised to unit root mean square, times `weight` (d,). NaN and infinity follow IEEE."""
    x, weight = np.asarray(x, np.float32), np.ascontiguousarray(weight, np.float32)
    if x.ndim == 0 or weight.shape != x.shape[-1:] or eps < 0:
        raise InvalidInputError(f"x {x.shape}, weight {weight.shape}, eps {eps}", where="rms_norm")
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    y = np.empty_like(rows)
    rms_norm_rows(rows, weight, eps, y, 0, rows.shape[0])
    return y.reshape(x.shape)


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions: frequencies base**(-2i/rotated) * scale, and what stretches them to longer contexts.

    trained: context the model was trained with; above 0 with a scale below 1, YaRN (arXiv:2309.00071) slows only the pairs that
    turn fewer than `slow` times in it, fully, and those up to `fast` times in part. magnitude: of cosine and sine. by_length: the
    file's factors are for contexts up to `trained` or for longer ones, and a magnitude of its own belongs to them (LongRoPE).
    """

    rotated: int
    base: float = 10000.0
    scale: float = 1.0
    trained: int = 0
    magnitude: float = 1.0
    fast: float = 32.0
    slow: float = 1.0
    by_length: bool = False

    def with_base(self, base: float) -> Rope:
        return replace(self, base=base)

    def table(self, positions: int, factors: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin f32[positions, rotated/2], computed in f64; `factors` divide the frequencies."""
        i = np.arange(0, self.rotated, 2, dtype=np.float64)
        frequency, magnitude = self.base ** (-i / self.rotated), self.magnitude
        if factors is not None:
            frequency = frequency / np.asarray(factors, np.float64)
        if self.trained and self.scale < 1:
            turns = [
                self.rotated * math.log(self.trained / (t * 2 * math.pi)) / (2 * math.log(self.base))
                for t in (self.fast, self.slow)
            ]
            low, high = max(0, math.floor(turns[0])), min(self.rotated - 1, math.ceil(turns[1]))
            kept = 1 - np.clip((i / 2 - low) / max(high - low, 1e-3), 0, 1)
            frequency = frequency * (self.scale * (1 - kept) + kept)
            magnitude *= 1 + 0.1 * math.log(1 / self.scale)
        else:
            frequency = frequency * self.scale
        angle = np.arange(positions, dtype=np.float64)[:, None] * frequency
        return (magnitude * np.cos(angle)).astype(np.float32), (magnitude * np.sin(angle)).astype(np.float32)


def rope(x: np.ndarray, *, position: int = 0, base: float = 10000.0, halves: bool = False) -> np.ndarray:
    """Rotary positions for x (tokens, heads, head_dim), the first token at `position`; returns a new array."""
    x = np.asarray(x, np.float32)
    if x.ndim != 3 or x.shape[2] % 2 or position < 0:
        raise InvalidInputError(
            f"x {x.shape} at position {position}", where="rope", hint="(tokens, heads, even head_dim)"
        )
    tokens, heads, head_dim = x.shape
    cos, sin = Rope(head_dim, base).table(position + tokens)
    y = np.array(x, np.float32).reshape(tokens, heads * head_dim)
    rope_rows(y, heads, head_dim, position, cos, sin, halves, 0, tokens)
    return y.reshape(x.shape)


def swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """silu(gate) * up elementwise, f32. NaN stays NaN; silu(-inf) * up is NaN as in IEEE (-inf * 0)."""
    gate, up = np.ascontiguousarray(gate, np.float32), np.ascontiguousarray(up, np.float32)
    if gate.shape != up.shape:
        raise InvalidInputError(f"gate {gate.shape} and up {up.shape}", where="swiglu")
    y = np.empty_like(gate)
    swiglu_row(gate.reshape(-1), up.reshape(-1), y.reshape(-1))
    return y
