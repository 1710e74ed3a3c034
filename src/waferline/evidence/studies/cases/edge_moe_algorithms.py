"""Expert by expert instead of token by token: a queue of tokens for each expert, so weights are read once a layer.

Source: Edge-MoE, arXiv:2305.18691, section III-E (patch reordering), and moe.cpp of its source.

GELU from a small table: gelu(x) = relu(x) - delta(|x|), where delta is even and fades by 5.5.

Source: Edge-MoE, arXiv:2305.18691, section III-C.

Attention with one key row a step, whatever the parallelism: queries enter the slots one step apart.

`slots` query rows stay in registers; each step brings ONE key row and multiplies it with all of them. As key j passes
(j < slots), slot j takes its next query, so each query meets the keys in an order that wraps round.
Source: Edge-MoE, arXiv:2305.18691, section III-A and the paper's table of loads.

Softmax in one pass: a running maximum and a sum that is rescaled whenever the maximum grows.

Exact, not an approximation. `quantise` turns it into the fixed-point datapath of an FPGA.
Source: Edge-MoE, arXiv:2305.18691, section III-B; Milakov and Gimelshein 2018, arXiv:1805.02867.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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


_STEEPEST_BEND = 2.0 / math.sqrt(2.0 * math.pi)  # largest |gelu''|, at zero


def gelu(x: npt.ArrayLike) -> FloatArray:
    """x times the normal distribution's cumulative, in double precision."""
    values = np.asarray(x, np.float64)
    return values * 0.5 * (1.0 + _erf(values / math.sqrt(2.0)))


@dataclass(frozen=True, slots=True)
class GeluTable:
    """delta at 0, step, 2 step, ...; linear between, plain ReLU beyond the last entry."""

    step: float
    deltas: FloatArray

    @classmethod
    def build(cls, step: float, entries: int) -> GeluTable:
        points = step * np.arange(entries)
        return cls(step, np.maximum(points, 0.0) - gelu(points))

    @property
    def error_bound(self) -> float:
        """Of linear interpolation, step² / 8 times the largest curvature, plus what is dropped beyond the table."""
        return self.step**2 / 8 * _STEEPEST_BEND + float(abs(self.deltas[-1]))

    def __call__(self, x: npt.ArrayLike) -> FloatArray:
        values = np.asarray(x, np.float64)
        place = np.abs(values) / self.step
        left = np.minimum(place.astype(np.int64), len(self.deltas) - 2)
        between = place - left
        delta = self.deltas[left] + between * (self.deltas[left + 1] - self.deltas[left])
        return np.maximum(values, 0.0) - np.where(place > len(self.deltas) - 1, 0.0, delta)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def row_steps(tokens: int, slots: int) -> int:
    """Steps (key rows read) until every query has met every key."""
    rounds, rest = divmod(tokens + slots - 1, slots)
    return rounds * tokens + rest


def row_loads(tokens: int, slots: int, reordered: bool = True) -> int:
    """Rows read in all, keys and queries: N²/p + N + p - 1 reordered (p divides N), N² + N without."""
    return (row_steps(tokens, slots) if reordered else tokens * tokens) + tokens


def visits(tokens: int, slots: int) -> Iterator[tuple[int, int]]:
    """The (query, key) pairs in the order in which the slots meet them; slots that hold no query yield nothing."""
    for step in range(row_steps(tokens, slots)):
        turn, key = divmod(step, tokens)
        for slot in range(slots):
            query = (turn if key >= slot else turn - 1) * slots + slot
            if 0 <= query < tokens:
                yield query, key


def fixed_point(fraction_bits: int) -> Callable[[FloatArray], FloatArray]:
    """Truncation towards minus infinity to multiples of 2^-fraction_bits, as `ap_fixed` does by default."""
    scale = 2.0**fraction_bits
    return lambda x: np.floor(x * scale) / scale


def online_softmax(x: FloatArray, quantise: Callable[[FloatArray], FloatArray] = np.asarray) -> FloatArray:
    """Softmax over the last axis of `x` (..., n); every intermediate goes through `quantise`."""
    x = quantise(np.asarray(x, np.float64))
    largest, total = x[..., 0].copy(), np.ones(x.shape[:-1])
    for i in range(1, x.shape[-1]):
        value = x[..., i]
        grows = value > largest
        factor = quantise(np.exp(-np.abs(value - largest)))
        total = np.where(grows, quantise(total * factor) + 1.0, total + factor)
        largest = np.where(grows, value, largest)
    inverse = quantise(1.0 / total)
    return quantise(quantise(np.exp(x - largest[..., None])) * inverse[..., None])
