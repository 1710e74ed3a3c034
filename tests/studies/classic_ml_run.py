"""The same learners running, in plain loops, on numbers that may count their own operations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Counted:
    """A float that counts what is done with it in `tally`: the operand on the left keeps the book."""

    value: float
    tally: Counter[str]

    def _did(self, kind: str, value: float) -> Counted:
        self.tally[kind] += 1
        return Counted(value, self.tally)

    def __add__(self, other: Counted) -> Counted:
        return self._did("add", self.value + other.value)

    def __sub__(self, other: Counted) -> Counted:
        return self._did("sub", self.value - other.value)

    def __mul__(self, other: Counted) -> Counted:
        return self._did("mul", self.value * other.value)

    def __truediv__(self, other: Counted) -> Counted:
        return self._did("div", self.value / other.value)

    def __lt__(self, other: Counted) -> bool:
        self.tally["cmp"] += 1
        return self.value < other.value


Row = Sequence[Any]  # of floats or of Counted


def dot(a: Row, b: Row, start: Any) -> Any:
    """start + sum of a[i] b[i]."""
    total = start
    for x, y in zip(a, b, strict=True):
        total = total + x * y
    return total


def distance(a: Row, b: Row, start: Any) -> Any:
    """start + sum of (a[i] - b[i])²."""
    total = start
    for x, y in zip(a, b, strict=True):
        gap = x - y
        total = total + gap * gap
    return total


def smallest(values: Row) -> int:
    """Index of the smallest, the first of equals."""
    best = 0
    for i in range(1, len(values)):
        if values[i] < values[best]:
            best = i
    return best


def exponential(x: Any, number: Callable[[float], Any]) -> Any:
    """exp(x) to single precision: x = n ln 2 + r, a polynomial of degree 6 in r, times 2^n."""
    scaled = x * number(1 / math.log(2))
    whole = round(scaled.value if isinstance(scaled, Counted) else scaled)
    rest = x - number(float(whole)) * number(math.log(2))
    total = number(1 / 720)
    for factorial in (120, 24, 6, 2, 1, 1):
        total = total * rest + number(1 / factorial)
    return total * number(2.0**whole)


def logistic_regression(x: Row, weights: Sequence[Row], biases: Row, number: Callable[[float], Any]) -> list[Any]:
    """The probability of each class against all others; weights are stored negated: 1 / (1 + exp(-w x - b))."""
    margins = [dot(w, x, number(0.0)) + b for w, b in zip(weights, biases, strict=True)]
    return [number(1.0) / (number(1.0) + exponential(m, number)) for m in margins]


def linear_svm(x: Row, weights: Sequence[Row], biases: Row, zero: Any) -> int:
    """The class with the largest margin."""
    margins = [dot(w, x, zero) + b for w, b in zip(weights, biases, strict=True)]
    return smallest([_negative(m) for m in margins])


def gaussian_naive_bayes(x: Row, means: Sequence[Row], halves: Sequence[Row], priors: Row, zero: Any) -> int:
    """The likeliest class; halves: 1 / (2 variance), priors: -log prior + sum of log deviations."""
    scores = []
    for mean, half, prior in zip(means, halves, priors, strict=True):
        total = zero
        for value, centre, weight in zip(x, mean, half, strict=True):
            gap = value - centre
            total = total + gap * gap * weight
        scores.append(total + prior)
    return smallest(scores)


def nearest_neighbours(x: Row, support: Sequence[Row], neighbours: int, zero: Any) -> list[int]:
    """Indices of the nearest stored samples, nearest first."""
    left = [(distance(x, row, zero), i) for i, row in enumerate(support)]
    found = []
    for _ in range(neighbours):
        found.append(left.pop(smallest([d for d, _ in left]))[1])
    return found


def k_means(samples: Sequence[Row], centres: Sequence[Row], number: Callable[[float], Any]) -> list[list[Any]]:
    """New centres after one pass; an empty cluster divides by one."""
    width, zero = len(centres[0]), number(0.0)
    sums, sizes = [[zero] * width for _ in centres], [0] * len(centres)
    for row in samples:
        nearest = smallest([distance(row, centre, zero) for centre in centres])
        sizes[nearest] += 1
        for j, value in enumerate(row):
            sums[nearest][j] = sums[nearest][j] + value
    counts = [number(float(max(n, 1))) for n in sizes]
    return [[total / n for total in row] for row, n in zip(sums, counts, strict=True)]


def walk_tree(x: Row, feature: Sequence[int], threshold: Row, depth: int) -> int:
    """Leaf of a complete tree whose node i has children 2i + 1 (below the threshold) and 2i + 2."""
    node = 0
    for _ in range(depth):
        node = 2 * node + (1 if x[feature[node]] < threshold[node] else 2)
    return node


def _negative(x: Any) -> Any:
    return Counted(-x.value, x.tally) if isinstance(x, Counted) else -x
