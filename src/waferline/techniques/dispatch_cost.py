"""Decode steps of a mixture of experts from those of dense models on the same cards, with one dispatch term a layer.

A step is: fixed + weights / bandwidth + sequences · (a · layers + b · active parameters) + layers · dispatch. The first
four constants come from two dense models at two batch sizes each; the dispatch is what a mixture adds at batch 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Step:
    """One measured decode step: a model (parameters read and computed, layers), sequences, seconds."""

    read_parameters: float
    active_parameters: float
    layers: float
    sequences: float
    time_s: float


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """Constants of a group of cards: seconds, seconds per parameter read, per sequence and layer, per sequence and
    active parameter, and per layer of a mixture."""

    fixed_s: float
    read_s: float
    layer_s: float
    active_s: float
    dispatch_s: float = 0.0

    def step_s(self, read: float, active: float, layers: float, sequences: float, mixture: bool) -> float:
        each = self.layer_s * layers + self.active_s * active
        return self.fixed_s + self.read_s * read + sequences * each + self.dispatch_s * layers * mixture


def fit_dense(steps: Sequence[Step]) -> DecodeCost:
    """Constants from four steps of dense models, solved exactly (two models, two batch sizes)."""
    matrix = [[1.0, s.read_parameters, s.sequences * s.layers, s.sequences * s.active_parameters] for s in steps]
    scale = np.abs(matrix).max(axis=0)
    solved = np.linalg.solve(np.array(matrix) / scale, [s.time_s for s in steps]) / scale
    return DecodeCost(*map(float, solved))


def with_dispatch(cost: DecodeCost, row: Step) -> DecodeCost:
    """The dispatch per layer that one step of a mixture shows."""
    rest = row.time_s - cost.step_s(row.read_parameters, row.active_parameters, row.layers, row.sequences, False)
    return DecodeCost(cost.fixed_s, cost.read_s, cost.layer_s, cost.active_s, rest / row.layers)
