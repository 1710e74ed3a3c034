"""XR-NPE: posit and FP4 codecs, exact mixed products in a quire, and a format for each layer.

One format for each layer: the cheapest mix whose error stays within a budget (greedy, XR-NPE's layer-adaptive choice).

Source: XR-NPE, arXiv:2508.13049, section IV: layers are lowered in the order of their sensitivity.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from waferline.arrays import FloatArray, IntArray
from waferline.errors import DoesNotFitError
from waferline.evidence.studies.cases.quire import SmallFormat, quire_matmul
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity, own
from waferline.evidence.studies.tolerance import EXACT, at_least, at_most, printed

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


_WHY_SYNTHESIS = "a synthesis result: no RTL, lane counts or power by format are published"
_WHY_MIX = "which layers have which format is not published; 2.42 MB would be this many bits a weight on average"
_TERMS = 32


def compute(data: Facts) -> Iterator[Check]:
    yield from _codecs(data)
    yield from _products()
    yield from _choice()
    sizes = data["ul_vio"]
    yield identity(
        "UL-VIO at 8 bits a weight", "MB", float(sizes["fp8_mb"]), sizes["fp32_mb"] / 4, printed(sizes["fp8_mb"])
    )
    bits = 32 * sizes["mixed_mb"] / sizes["fp32_mb"]
    yield Check("UL-VIO in mixed formats", "bits a weight", None, bits, None, why=_WHY_MIX)
    for row in data["synthesis"]:
        yield Check(row["name"], row["unit"], row["value"], None, None, why=_WHY_SYNTHESIS)


def _codecs(data: Facts) -> Iterator[Check]:
    for row in data["formats"]:
        codec = SmallFormat.posit(row["bits"], row["es"])
        found = codec.positive if "positive" in row else codec.positive[[0, -1]]
        wrong = int(np.sum(found != np.array(row.get("positive", row.get("ends")), float)))
        yield own(f"{codec.name}: wrong values", f"of {len(found)}", 0, wrong, EXACT)
        finite = codec.values[np.isfinite(codec.values)]
        lost = int(np.sum(codec.values[codec.encode(finite)] != finite))
        yield own(f"{codec.name}: values lost in a round trip", f"of {len(finite)}", 0, lost, EXACT)
    ours = SmallFormat.fp4().positive
    yield own("FP4 E2M1: wrong values", "of 7", 0, int(np.sum(ours != np.array(data["fp4"]))), EXACT)
    other = int(np.sum(ours != np.array(data["repository_fp4"])))
    yield own("the authors' emulated FP4: levels that are not E2M1's", "of 7", None, other, at_least(1))


def _products() -> Iterator[Check]:
    formats = [SmallFormat.fp4(), SmallFormat.posit(4, 1), SmallFormat.posit(8, 0), SmallFormat.posit(16, 1)]
    target, rng = SmallFormat.posit(16, 1), np.random.default_rng(0)
    for a, b in product(formats, formats):
        left, right = (_codes(rng, f, shape) for f, shape in ((a, (5, _TERMS)), (b, (_TERMS, 4))))
        quire = quire_matmul(left, right, a, b)
        wrong = _against_fractions(left, right, a, b, quire, target)
        yield own(f"{a.name} times {b.name}: sums or roundings not exact", "of 40", 0, wrong, EXACT)


def _codes(rng: Any, codec: Any, shape: tuple[int, int]) -> Any:

    numbers = np.flatnonzero(np.isfinite(codec.values))
    return rng.choice(numbers, shape)


def _against_fractions(left: Any, right: Any, a: Any, b: Any, quire: Any, target: Any) -> int:
    """How many sums differ from rational arithmetic, and how many roundings are not to the nearest value."""

    unit, rounded, wrong = Fraction(2) ** quire.exponent, quire.rounded(target), 0
    for i in range(left.shape[0]):
        for j in range(right.shape[1]):
            pairs = zip(a.values[left[i]], b.values[right[:, j]], strict=True)
            exact = sum((Fraction(float(x)) * Fraction(float(y)) for x, y in pairs), Fraction(0))
            wrong += exact != int(quire.units[i, j]) * unit
            wrong += abs(Fraction(float(rounded[i, j])) - exact) != _nearest_distance(exact, target)
    return wrong


def _nearest_distance(exact: Any, target: Any) -> Any:
    """From a rational number to `target`'s nearest value; a posit never rounds a number to zero."""

    grid = [0.0] if not exact else [float(v) for v in target.positive]
    place = bisect(grid, abs(exact))
    return min(abs(Fraction(v) - abs(exact)) for v in grid[max(place - 1, 0) : place + 1])


def _choice() -> Iterator[Check]:
    formats = [SmallFormat.posit(4, 1), SmallFormat.fp4(), SmallFormat.posit(8, 0), SmallFormat.posit(16, 1)]
    rng, sizes = np.random.default_rng(1), np.array([2e3, 8e3, 3e4, 6e4, 1.2e5, 4e4])
    weights = [rng.standard_t(df, int(n)) for df, n in zip((3, 4, 6, 10, 30, 100), sizes, strict=True)]
    share = sizes[:, None] / sizes.sum()
    error = np.array([[quantisation_error(w, f.values) for f in formats] for w in weights]) * share
    cost = sizes[:, None] * np.array([f.bits for f in formats])
    budget = float(error[:, :2].sum(axis=0).min() / 2)  # half of what the better 4-bit format alone would lose
    chosen = choose_formats(cost, error, budget)
    layers = np.arange(len(sizes))
    spent, alone = error[layers, chosen].sum() / budget, cost.sum(axis=0)[error.sum(axis=0) <= budget].min()
    yield own("error of the mix over the budget", "×", None, float(spent), at_most(1.0))
    ratio = float(cost[layers, chosen].sum() / alone)
    yield own("bits of the mix over the best single format", "×", None, ratio, at_most(1.0))
