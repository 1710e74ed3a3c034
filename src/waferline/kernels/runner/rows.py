"""What stands between the matrices of a layer, on rows of activations: norms, biases, activation functions, choice of experts."""

from __future__ import annotations

from typing import Any

import numpy as np

from waferline.kernels.cpu.elementwise import add_rows, clamped_row, geglu_row, rms_norm_rows, swiglu_row
from waferline.kernels.cpu.jit import jit
from waferline.kernels.cpu.softmax import softmax_reload

ACTIVATIONS = ("silu", "gelu", "clamped")
_GELU, _CLAMPED = 1, 2


@jit
def norm_parts(x: Any, weight: Any, width: int, eps: float) -> None:
    """RMSNorm in place of x[:, :width] in parts as long as `weight`: each head, or all together. x f32[n, width or more]."""
    parts = width // weight.size
    for r in range(x.shape[0]):
        rows = x[r, :width].reshape(parts, weight.size)
        rms_norm_rows(rows, weight, eps, rows, 0, parts)


@jit
def add_bias(x: Any, bias: Any) -> None:
    """x[:, :n] += bias f32[n]."""
    for r in range(x.shape[0]):
        for i in range(bias.size):
            x[r, i] += bias[i]


@jit
def finish(x: Any, y: Any, norms: Any, layer: int, eps: float, scale: Any) -> None:
    """x += scale * norm(y), rows as long as x's; y is overwritten, `norms` may be empty."""
    if norms.size:
        norm_parts(y, norms[layer], x.shape[1], eps)
    if scale != 1:
        for r in range(x.shape[0]):
            for i in range(x.shape[1]):
                y[r, i] *= scale
    add_rows(x, y, 0, x.shape[0])


@jit
def activate(kind: int, gate: Any, up: Any, y: Any) -> None:
    """What a network does between its matrices, for one row."""
    if kind == _GELU:
        geglu_row(gate, up, y)
    elif kind == _CLAMPED:
        clamped_row(gate, up, y)
    else:
        swiglu_row(gate, up, y)


@jit
def choose(logits: Any, used: int, renormalise: bool, chosen: Any, weights: Any) -> None:
    """The `used` experts of largest probability, lower number first among equals, and their weights."""
    softmax_reload(logits, logits)
    total = np.float32(0.0)
    for j in range(used):
        best = np.argmax(logits)
        chosen[j], weights[j] = best, logits[best]
        total += weights[j]
        logits[best] = np.float32(-1.0)
    if renormalise:
        for j in range(used):
            weights[j] /= total
