"""The forward pass as the mesh computes it: tiles multiplied in each core's order, sums taken along chains and trees."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from waferline.arrays import IntArray
from waferline.machines.mesh_costs.collectives import ktree_groups
from waferline.simulate.mesh.gemm.data import multiply_on_mesh
from waferline.simulate.mesh.gemv.data import reduce_in_order
from waferline.simulate.mesh.transformer.kv import KvRows
from waferline.simulate.mesh.transformer.model import NORM_EPSILON, Layer, Llama, rope_angles, rotate

Array = NDArray[np.floating]


@dataclass(slots=True)
class MeshLlama:
    """`model` on `width` x `height` cores computing in `number_format` with fp32 sums; one KV cache per layer."""

    model: Llama
    width: int
    height: int
    number_format: str = "fp32"
    block: int = 1  # weights of a row that stay on one core
    tokens_per_row: int = 1 << 20
    caches: list[KvRows[tuple[Array, Array]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.caches = [KvRows(self.height, self.tokens_per_row) for _ in self.model.layers]

    def stored(self, x: NDArray) -> Array:
        """`x` as the cores keep it between operations."""
        return x.astype(np.float16 if self.number_format == "fp16" else np.float32).astype(np.float32)

    def prefill(self, tokens: IntArray) -> Array:
        """Logits after every prompt token; fills the caches, already in the decode layout."""
        w, n = self.model.widths, len(tokens)
        cos, sin = rope_angles(np.arange(n), w.head_dim)
        x = self.stored(self.model.embedding[tokens])
        for layer, cache in zip(self.model.layers, self.caches, strict=True):
            h = self._norm(x, layer.attention_norm)
            q = rotate(self._gemm(h, layer.q).reshape(n, w.heads, w.head_dim), cos, sin)
            k = rotate(self._gemm(h, layer.k).reshape(n, w.kv_heads, w.head_dim), cos, sin)
            q, k, v = self.stored(q), self.stored(k), self._gemm(h, layer.v).reshape(n, w.kv_heads, w.head_dim)
            for position in range(n):
                cache.append((k[position], v[position]))
            x = self.stored(x + self._gemm(self._attend(q, k, v), layer.o))
            x = self._mlp(x, layer, self._gemm)
        return self._gemm(self._norm(x, self.model.final_norm), self.model.head)

    def decode(self, token: int) -> Array:
        """Logits after one more token."""
        w = self.model.widths
        cos, sin = rope_angles(np.array([len(self.caches[0])]), w.head_dim)
        x = self.stored(self.model.embedding[[token]])
        for layer, cache in zip(self.model.layers, self.caches, strict=True):
            h = self._norm(x, layer.attention_norm, self.height)
            q = self.stored(rotate(self._gemv_y(h, layer.q).reshape(1, w.heads, w.head_dim), cos, sin))
            k = self.stored(rotate(self._gemv_y(h, layer.k).reshape(1, w.kv_heads, w.head_dim), cos, sin))
            v = self._gemv_y(h, layer.v).reshape(w.kv_heads, w.head_dim)
            cache.append((k[0], v))
            x = self.stored(x + self._gemv_x(self._attend_rows(q[0], cache), layer.o))
            x = self._mlp(x, layer, self._gemv_y, self._gemv_x, self.height)
        return self._gemv_y(self._norm(x, self.model.final_norm, self.height), self.model.head)[0]

    # ---- products

    def _gemm(self, x: Array, weight: NDArray) -> Array:
        kind = self.number_format
        return self.stored(
            multiply_on_mesh(x, self.stored(weight), self.width, self.height, number_format=kind, block=self.block)
        )

    def _gemv_y(self, x: Array, weight: NDArray) -> Array:
        return self._gemv(x, weight, self.height)

    def _gemv_x(self, x: Array, weight: NDArray) -> Array:
        return self._gemv(x, weight, self.width)

    def _gemv(self, x: Array, weight: NDArray, cores: int) -> Array:
        """Each of `cores` positions multiplies its rows of the weight; a K-tree sums the partial results."""
        rows = -(-weight.shape[0] // (self.block * cores)) * self.block
        kept = self.stored(weight)
        parts = [x[:, i * rows : (i + 1) * rows] @ kept[i * rows : (i + 1) * rows] for i in range(cores)]
        return self.stored(self._tree(np.stack(parts)))

    def _tree(self, parts: NDArray) -> NDArray:
        return reduce_in_order(parts, ktree_groups(len(parts), 2), None, "fp32")

    # ---- between products

    def _norm(self, x: Array, weight: NDArray, cores: int | None = None) -> Array:
        """RMSNorm: local sums of squares, one all-reduce, local scaling."""
        squares = _tiles(x * x, cores or self.width).sum(axis=-1, dtype=np.float32)
        mean = self._tree(squares)[:, None] / x.shape[1]
        return self.stored(x / np.sqrt(mean + np.float32(NORM_EPSILON)) * weight)

    def _mlp(self, x: Array, layer: Layer, into: object, back: object = None, cores: int | None = None) -> Array:
        multiply, last = into, back or into
        assert callable(multiply) and callable(last)
        h = self._norm(x, layer.ffn_norm, cores)
        gate, up = multiply(h, layer.gate), multiply(h, layer.up)
        inner = self.stored(gate / (1 + np.exp(-gate)) * up)
        return self.stored(x + last(inner, layer.down))

    def _attend(self, q: Array, k: Array, v: Array) -> Array:
        """Causal attention of all positions: scores summed over a group's columns, two-pass softmax, product with V."""
        w, n = self.model.widths, len(q)
        columns, _ = group_columns(self.width, w.kv_heads)
        causal = np.tril(np.ones((n, n), bool))
        out = np.empty((n, w.heads, w.head_dim), np.float32)
        for head in range(w.heads):
            keys, values = k[:, head // w.group], v[:, head // w.group]
            parts = np.stack([a @ b.T for a, b in zip(_tiles(q[:, head], columns), _tiles(keys, columns), strict=True)])
            scores = reduce_in_order(parts, (), 0, "fp32") / np.sqrt(np.float32(w.head_dim))
            scores = np.where(causal, scores, -np.inf)
            local_max = _tiles(scores, columns, -np.inf).max(axis=-1)
            powers = np.exp(scores - local_max.max(axis=0)[:, None])
            total = self._tree(_tiles(powers, columns).sum(axis=-1, dtype=np.float32))
            share = self.stored(powers / total[:, None])
            out[:, head] = multiply_on_mesh(share, values, columns, self.height, number_format=self.number_format)
        return self.stored(out.reshape(n, w.query))

    def _attend_rows(self, q: Array, cache: KvRows[tuple[Array, Array]]) -> Array:
        """Attention of one position: each mesh row on its own tokens; maximum, sum and output reduced along y."""
        w = self.model.widths
        columns, _ = group_columns(self.width, w.kv_heads)
        owner = np.arange(w.heads) // w.group
        scores, values = [], []
        for row in cache.rows:
            k = np.array([entry[0] for entry in row], np.float32).reshape(len(row), w.kv_heads, w.head_dim)[:, owner]
            v = np.array([entry[1] for entry in row], np.float32).reshape(len(row), w.kv_heads, w.head_dim)[:, owner]
            parts = np.stack([np.einsum("hd,thd->th", a, b) for a, b in
                              zip(_tiles(q, columns), _tiles(k, columns), strict=True)])  # fmt: skip
            scores.append(reduce_in_order(parts, (), 0, "fp32") / np.sqrt(np.float32(w.head_dim)))
            values.append(v)
        top = np.max([s.max(axis=0, initial=-np.inf) for s in scores], axis=0)
        powers = [np.exp(s - top) for s in scores]
        total = self._tree(np.stack([e.sum(axis=0, dtype=np.float32) for e in powers]))
        sums = self._tree(np.stack([np.einsum("th,thd->hd", e, v) for e, v in zip(powers, values, strict=True)]))
        return self.stored((sums / total[:, None]).reshape(1, w.query))


def _tiles(x: NDArray, cores: int, fill: float = 0.0) -> NDArray:
    """The last axis cut over `cores`: (cores, ..., width of a tile), padded with `fill`."""
    size = -(-x.shape[-1] // cores)
    padded = np.full((*x.shape[:-1], cores * size), fill, x.dtype)
    padded[..., : x.shape[-1]] = x
    return np.moveaxis(padded.reshape(*x.shape[:-1], cores, size), -2, 0)


def group_columns(width: int, kv_heads: int) -> tuple[int, int]:
    """Columns each key/value head gets (a divisor of `width`), and heads each column serves in turn (1 when enough)."""
    if width < kv_heads:
        return 1, -(-kv_heads // width)
    return max(c for c in range(1, width // kv_heads + 1) if width % c == 0), 1
