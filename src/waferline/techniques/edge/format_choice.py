"""One format for each layer: the cheapest mix whose error stays within a budget (greedy, XR-NPE's layer-adaptive choice).

Source: XR-NPE, arXiv:2508.13049, section IV: layers are lowered in the order of their sensitivity.
"""

from __future__ import annotations

import numpy as np

from waferline.arrays import FloatArray, IntArray
from waferline.errors import DoesNotFitError

_FREE = 1e-30  # a step that adds no error, or lowers it, is as good as one that adds this little


def choose_formats(cost: FloatArray, error: FloatArray, budget: float) -> IntArray:
    """For each layer the index of its format; cost and error are (layers, formats), errors of layers add up.

    Starts from the most accurate format of each layer and takes, while the budget allows, the step that saves most for
    the error it adds. Raises: DoesNotFitError where even the most accurate formats exceed the budget.
    """
    layers = np.arange(len(cost))
    chosen = error.argmin(axis=1)
    spent = float(error[layers, chosen].sum())
    if spent > budget:
        raise DoesNotFitError(f"error {spent:.3g} with the most accurate formats", hint=f"the budget is {budget:.3g}")
    while True:
        saved = cost[layers, chosen][:, None] - cost
        added = error - error[layers, chosen][:, None]
        open_steps = (saved > 0) & (spent + added <= budget)
        if not open_steps.any():
            return np.asarray(chosen, dtype=np.int64)
        gain = np.where(open_steps, saved / np.maximum(added, _FREE), -np.inf)
        layer, index = np.unravel_index(int(gain.argmax()), gain.shape)
        spent += float(added[layer, index])
        chosen[layer] = index


def quantisation_error(weights: FloatArray, values: FloatArray) -> float:
    """Mean squared error of `weights`, scaled to unit spread, when each takes the nearest of `values`."""
    table = np.unique(values[np.isfinite(values)])
    scaled = weights / weights.std()
    nearest = table[np.searchsorted((table[1:] + table[:-1]) / 2, scaled)]
    return float(np.mean((scaled - nearest) ** 2))
