"""Classic learners as workloads: how many operations one decision (or one k-means pass) takes.

Each count is of the plain loop that `classic_ml_run` executes, and a test counts that loop. Stages are split over the
cores by their rows; `serial` is what one core does at the end.
Source: Tabanelli et al. 2023, arXiv:2107.09448, section III (kernels and how they are parallelised).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_KINDS = ("add", "sub", "mul", "div", "cmp", "load")
# exp(x) in single precision: reduce x (2 mul, 1 sub), polynomial of degree 6 (6 mul, 6 add), scale (1 mul)
EXP = {"add": 6.0, "sub": 1.0, "mul": 9.0}


@dataclass(frozen=True, slots=True)
class Operations:
    """Floating-point operations and loads."""

    add: float = 0.0
    sub: float = 0.0
    mul: float = 0.0
    div: float = 0.0
    cmp: float = 0.0
    load: float = 0.0

    def __add__(self, other: Operations) -> Operations:
        return Operations(*(getattr(self, k) + getattr(other, k) for k in _KINDS))

    def times(self, factor: float) -> Operations:
        return Operations(*(getattr(self, k) * factor for k in _KINDS))

    def cycles(self, cost: Mapping[str, float]) -> float:
        """On one core, at `cost` cycles each."""
        return float(sum(getattr(self, k) * cost[k] for k in _KINDS))


@dataclass(frozen=True, slots=True)
class Stage:
    """Work that `rows` independent parts share evenly."""

    operations: Operations
    rows: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """A workload: stages one after another, then `serial` on one core."""

    name: str
    stages: tuple[Stage, ...]
    serial: Operations

    @property
    def operations(self) -> Operations:
        return sum((s.operations for s in self.stages), self.serial)

    def speedup(self, cost: Mapping[str, float], cores: int, contention: float) -> float:
        """Of `cores` over one: blocks of ceil(rows / cores), slowed by contention, then the serial part."""
        split = sum(s.operations.cycles(cost) * math.ceil(s.rows / cores) / s.rows for s in self.stages)
        return self.operations.cycles(cost) / (split / contention + self.serial.cycles(cost))


def _dots(count: int, length: int) -> Operations:
    """`count` dot products: two loads, a multiply and an add an element."""
    return Operations(add=1, mul=1, load=2).times(count * length)


def _distances(count: int, length: int) -> Operations:
    """`count` squared distances."""
    return Operations(add=1, sub=1, mul=1, load=2).times(count * length)


def _largest(count: int) -> Operations:
    """The largest (or smallest) of `count` numbers."""
    return Operations(cmp=1, load=1).times(count - 1)


_BIAS = Operations(add=1, load=1)


def logistic_regression(features: int, classes: int) -> Kernel:
    """One-against-all: a dot product, a bias and a sigmoid a class, then the largest."""
    sigmoid = (Operations(add=1, load=1) + Operations(**EXP) + Operations(add=1, div=1)).times(classes)
    stages = (Stage(_dots(classes, features), features * classes), Stage(sigmoid, classes))
    return Kernel("logistic regression", stages, _largest(classes))


def linear_svm(features: int, classes: int) -> Kernel:
    """A dot product and a bias a class, then the largest."""
    stages = (Stage(_dots(classes, features), features * classes), Stage(_BIAS.times(classes), classes))
    return Kernel("linear SVM", stages, _largest(classes))


def gaussian_naive_bayes(features: int, classes: int) -> Kernel:
    """Sum over features of ((x - mean)² / 2 variance) and a prior a class; 1 / 2 variance is stored."""
    each = Operations(add=1, sub=1, mul=2, load=3).times(features * classes)
    stages = (Stage(each, features * classes), Stage(_BIAS.times(classes), classes))
    return Kernel("Gaussian naive Bayes", stages, _largest(classes))


def nearest_neighbours(features: int, support: int, neighbours: int) -> Kernel:
    """Distances to all stored samples, then `neighbours` passes that each find the smallest of those left."""
    passes = sum((_largest(support - i) for i in range(neighbours)), Operations())
    return Kernel("k nearest neighbours", (Stage(_distances(support, features) + passes, support),), Operations())


def k_means(features: int, samples: int, clusters: int) -> Kernel:
    """One pass: nearest centre of each sample, sums by cluster, then new centres."""
    assign = _distances(clusters * samples, features) + _largest(clusters).times(samples)
    gather = Operations(add=1, load=2).times(samples * features)
    divide = Operations(div=1, load=1).times(clusters * features)
    stages = (Stage(assign + gather, samples), Stage(divide, clusters * features))
    return Kernel("k-means", stages, Operations())


def random_forest(trees: int, depth: int, classes: int) -> Kernel:
    """A comparison a level and tree, then the votes."""
    walk = Operations(cmp=1, load=2).times(trees * depth)
    return Kernel("random forest", (Stage(walk, trees),), _largest(classes))
