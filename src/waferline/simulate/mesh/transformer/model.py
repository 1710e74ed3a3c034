"""A small Llama-architecture model with its weights, and its plain NumPy forward pass as the reference."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from waferline.arrays import FloatArray, IntArray
from waferline.simulate.mesh.weights import WeightFormat

ROPE_BASE = 10_000.0  # Llama 2; the angle table is the same code for any base
NORM_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Widths:
    """Sizes of a Llama-style layer, in elements and heads."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int

    @property
    def query(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def key_value(self) -> int:
        """Width of K, and of V."""
        return self.kv_heads * self.head_dim

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads // self.kv_heads

    def layer_tile(self, width: int, height: int) -> int:
        """Weights of one layer in one of `width` x `height` cores: a tile of each matrix, padded, and the norms."""

        def tile(rows: int, columns: int) -> int:
            return -(-rows // height) * -(-columns // width)

        attention = 2 * tile(self.hidden, self.query) + 2 * tile(self.hidden, self.key_value)
        return attention + 3 * tile(self.hidden, self.intermediate) + 2 * -(-self.hidden // width)


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer, each (in, out); norms are vectors."""

    attention_norm: FloatArray
    q: FloatArray
    k: FloatArray
    v: FloatArray
    o: FloatArray
    ffn_norm: FloatArray
    gate: FloatArray
    up: FloatArray
    down: FloatArray


@dataclass(frozen=True, slots=True)
class Llama:
    """A decoder with grouped-query attention, rotary positions, RMSNorm and a gated MLP."""

    widths: Widths
    layers: tuple[Layer, ...]
    embedding: FloatArray  # (vocabulary, hidden)
    final_norm: FloatArray
    head: FloatArray  # (hidden, vocabulary)


def random_llama(widths: Widths, layers: int, vocabulary: int, seed: int = 0) -> Llama:
    """A model with random weights scaled so that activations stay of order one; values are exact in fp16."""
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> FloatArray:
        return (rng.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float16).astype(np.float64)

    def norm() -> FloatArray:
        return rng.uniform(0.5, 1.5, widths.hidden).astype(np.float16).astype(np.float64)

    w = widths
    made = tuple(
        Layer(norm(), matrix(w.hidden, w.query), matrix(w.hidden, w.key_value), matrix(w.hidden, w.key_value),
              matrix(w.query, w.hidden), norm(), matrix(w.hidden, w.intermediate), matrix(w.hidden, w.intermediate),
              matrix(w.intermediate, w.hidden))
        for _ in range(layers)
    )  # fmt: skip
    embedding = rng.standard_normal((vocabulary, w.hidden)).astype(np.float16).astype(np.float64)
    return Llama(w, made, embedding, norm(), matrix(w.hidden, vocabulary))


def with_weights(model: Llama, form: WeightFormat) -> Llama:
    """`model` as the cores compute with it: each matrix through `form` and back, norms and embedding as they are."""
    matrices = ("q", "k", "v", "o", "gate", "up", "down")
    kept = lambda matrix: form.stored(matrix).astype(np.float64)  # noqa: E731
    layers = [replace(one, **{name: kept(getattr(one, name)) for name in matrices}) for one in model.layers]
    return replace(model, layers=tuple(layers), head=kept(model.head))


def rope_angles(positions: IntArray, head_dim: int) -> tuple[FloatArray, FloatArray]:
    """Cosine and sine, (position, head_dim / 2)."""
    frequency = ROPE_BASE ** (-np.arange(0, head_dim, 2) / head_dim)
    angle = positions[:, None] * frequency
    return np.cos(angle), np.sin(angle)


def rotate(x: NDArray[np.floating], cos: FloatArray, sin: FloatArray) -> NDArray[np.floating]:
    """Rotary embedding of (position, head, head_dim): dimension i turns with dimension i + head_dim / 2."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos[:, None] - b * sin[:, None], b * cos[:, None] + a * sin[:, None]], axis=-1)


def rms_norm(x: FloatArray, weight: FloatArray) -> FloatArray:
    """RMSNorm over the last axis."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + NORM_EPSILON) * weight


def reference_logits(model: Llama, tokens: IntArray) -> FloatArray:
    """Logits after every token, (token, vocabulary), in float64 and in one pass."""
    w, n = model.widths, len(tokens)
    cos, sin = rope_angles(np.arange(n), w.head_dim)
    mask = np.where(np.tril(np.ones((n, n), bool)), 0.0, -np.inf)
    x = model.embedding[tokens]
    for layer in model.layers:
        h = rms_norm(x, layer.attention_norm)
        q = rotate((h @ layer.q).reshape(n, w.heads, w.head_dim), cos, sin)
        k = rotate((h @ layer.k).reshape(n, w.kv_heads, w.head_dim), cos, sin).repeat(w.group, axis=1)
        v = (h @ layer.v).reshape(n, w.kv_heads, w.head_dim).repeat(w.group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(w.head_dim) + mask
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", weights, v).reshape(n, w.query) @ layer.o
        h = rms_norm(x, layer.ffn_norm)
        gate = h @ layer.gate
        x = x + (gate / (1 + np.exp(-gate)) * (h @ layer.up)) @ layer.down
    return rms_norm(x, model.final_norm) @ model.head
