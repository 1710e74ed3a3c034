"""A causal attention-only decoder in float64: the smallest thing on which cache techniques can be proved exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray

Cache = list[tuple[FloatArray, FloatArray]]  # per layer: keys and values, (tokens, width)


@dataclass(frozen=True, slots=True)
class SmallDecoder:
    """`weights` is (layer, 4, width, width): projections to queries, keys, values and output."""

    weights: FloatArray

    @classmethod
    def random(cls, layers: int, width: int, seed: int) -> SmallDecoder:
        rng = np.random.default_rng(seed)
        return cls(rng.standard_normal((layers, 4, width, width)) / np.sqrt(width))

    def run(self, hidden: FloatArray, past: Cache | None = None) -> tuple[FloatArray, Cache]:
        """Hidden states (tokens, width) after all layers, and the cache of past and present tokens."""
        cache: Cache = []
        for index, (query, key, value, output) in enumerate(self.weights):
            keys, values = hidden @ key, hidden @ value
            if past is not None:
                keys, values = np.vstack([past[index][0], keys]), np.vstack([past[index][1], values])
            hidden = hidden + _attend(hidden @ query, keys, values) @ output
            cache.append((keys, values))
        return hidden, cache


def _attend(queries: FloatArray, keys: FloatArray, values: FloatArray) -> FloatArray:
    """Causal attention of the last `len(queries)` tokens over all of `keys`."""
    scores = queries @ keys.T / np.sqrt(keys.shape[1])
    first = len(keys) - len(queries)
    visible = np.arange(len(keys))[None, :] <= first + np.arange(len(queries))[:, None]
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True) @ values)
