"""Expert by expert instead of token by token: a queue of tokens for each expert, so weights are read once a layer.

Source: Edge-MoE, arXiv:2305.18691, section III-E (patch reordering), and moe.cpp of its source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Experts:
    """Gate (width, experts) and two-layer experts: first (experts, width, hidden), second (experts, hidden, width)."""

    gate: FloatArray
    first: FloatArray
    second: FloatArray
    activation: Callable[[FloatArray], FloatArray]

    def scores(self, x: FloatArray) -> FloatArray:
        """Softmax of the gate, (tokens, experts)."""
        z = x @ self.gate
        powers = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def run(self, expert: int, x: FloatArray) -> FloatArray:
        return np.asarray(self.activation(x @ self.first[expert]) @ self.second[expert])


def token_by_token(layer: Experts, x: FloatArray, chosen: int) -> tuple[FloatArray, int]:
    """Output (tokens, width) and how often an expert's weights were read: the plain order."""
    scores = layer.scores(x)
    out, reads = np.zeros_like(x), 0
    for token, row in enumerate(scores):
        for expert in np.argsort(-row, kind="stable")[:chosen]:
            out[token] += row[expert] * layer.run(int(expert), x[token : token + 1])[0]
            reads += 1
    return out, reads


def expert_by_expert(layer: Experts, x: FloatArray, chosen: int) -> tuple[FloatArray, int]:
    """The same output from queues: gate all tokens first, then gather, run and scatter for each non-empty expert."""
    scores = layer.scores(x)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :chosen]
    queues = [np.flatnonzero((best == expert).any(axis=1)) for expert in range(scores.shape[1])]
    waiting = [expert for expert, queue in enumerate(queues) if len(queue)]
    out = np.zeros_like(x)
    for expert in waiting:
        tokens = queues[expert]
        out[tokens] += scores[tokens, expert, None] * layer.run(expert, x[tokens])
    return out, len(waiting)
