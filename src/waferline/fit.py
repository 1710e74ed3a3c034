"""Constants fitted to measured times: least squares of log errors, rows left out by group, and how wrong the fit is on them.

An error is log(predicted time / measured time) throughout: above zero the prediction is too slow, whatever the metric. Every
calibration of the package and of `benchmarks/fit` goes through here; SciPy does the search and is imported by it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from waferline.arrays import AnyArray, FloatArray, IntArray

QUANTILES = (0.05, 0.25, 0.75, 0.95)  # of residuals, as every record of the catalogue holds them
FURTHEST = 3.0  # a log error beyond it (a factor of 20) pulls no more
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Errors:
    """Median and 90th percentile of the absolute error of time, and the median bias, as shares; nan where no row is."""

    median: float
    p90: float
    bias: float

    @classmethod
    def of(cls, log_errors: FloatArray) -> Self:
        """The figures of those among `log_errors` that are numbers."""
        e = log_errors[~np.isnan(log_errors)]
        if e.size == 0:
            return cls(float("nan"), float("nan"), float("nan"))
        size = np.abs(np.expm1(e))
        return cls(float(np.median(size)), float(np.quantile(size, 0.9)), float(np.expm1(np.median(e))))

    def card(self, digits: int = 4) -> dict[str, float]:
        """Median and 90th percentile as a record of a file."""
        return {"median": round(self.median, digits), "p90": round(self.p90, digits)}


def residual_quantiles(
    log_errors: FloatArray, method: Literal["linear", "nearest"] = "linear", weights: FloatArray | None = None
) -> tuple[float, float, float, float]:
    """`QUANTILES` of log(measured / predicted) over those among `log_errors` that are numbers.

    method: "nearest" takes the errors themselves, so of a handful the farthest, and no interval is narrower than they are.
    weights: how much each error counts; then one of the errors themselves is taken.
    """
    known = ~np.isnan(log_errors)
    if weights is None:
        return tuple(np.quantile(-log_errors[known], QUANTILES, method=method).tolist())
    counted = np.quantile(-log_errors[known], QUANTILES, weights=weights[known], method="inverted_cdf")
    return tuple(counted.tolist())


def soft(log_errors: FloatArray, noise: float, furthest: float = FURTHEST) -> FloatArray:
    """Residuals whose square grows like the error's below `noise`, and linearly beyond (pseudo-Huber)."""
    e = np.clip(log_errors, -furthest, furthest)
    return np.asarray(np.sqrt(2.0 * (np.sqrt(1.0 + (e / noise) ** 2) - 1.0)))


def fading(log_errors: FloatArray, noise: float) -> FloatArray:
    """Residuals whose pull fades beyond `noise` (Cauchy): a publisher whose rows all lie far off moves next to nothing."""
    return np.asarray(np.sqrt(2.0 * np.log1p((log_errors / noise) ** 2 / 2.0)))


def shrunk(
    log_errors: Callable[[dict[str, float]], FloatArray],
    start: Mapping[str, float],
    spread: Mapping[str, float],
    *,
    noise: float,
    weights: FloatArray | float = 1.0,
    most: Mapping[str, float] | None = None,
    loss: Callable[[FloatArray, float], FloatArray] = soft,
    steps: int | None = None,
) -> dict[str, float]:
    """Positive constants with the least robust error, each shrunk in its logarithm towards `start`.

    spread: how far, as a log ratio, a constant may go before it costs as much as an error of `noise`.
    most: the farthest it may go at all. weights: of the rows' squares. loss: `soft` or `fading`. steps: evaluations at most.
    """
    from scipy.optimize import OptimizeResult, least_squares

    widths = np.array([spread[name] for name in start])
    limits = np.array([(most or {}).get(name, np.inf) for name in start])

    def constants(x: FloatArray) -> dict[str, float]:
        return {name: at * float(np.exp(d)) for (name, at), d in zip(start.items(), x, strict=True)}

    def search(at: FloatArray, loss: Callable[[FloatArray, float], FloatArray]) -> OptimizeResult:
        def residuals(x: FloatArray) -> FloatArray:
            return np.concatenate([np.sqrt(weights) * loss(log_errors(constants(x)), noise), x / widths])

        return least_squares(residuals, at, bounds=(-limits, limits), max_nfev=steps)

    found = search(np.zeros(len(start)), soft)
    if loss is not soft:  # rows far from the start pull no more: the search begins where they all did, and at the start
        found = min((search(at, loss) for at in (found.x, np.zeros(len(start)))), key=lambda f: float(f.cost))
    return constants(found.x)


def bounded(
    log_errors: Callable[[FloatArray], FloatArray],
    starts: Sequence[FloatArray],
    low: FloatArray,
    high: FloatArray,
    *,
    noise: float,
    scale: FloatArray | float = 1.0,
    steps: int | None = None,
) -> tuple[FloatArray, float]:
    """The best of a search from each of `starts` between bounds, and its cost: robust, with nothing to shrink towards.

    scale: how far apart values of each constant are that differ alike.
    """
    from scipy.optimize import least_squares

    robust = {"loss": "soft_l1", "f_scale": noise}
    found = [
        least_squares(log_errors, start, bounds=(low, high), x_scale=scale, max_nfev=steps, **robust)
        for start in starts
    ]
    best = min(found, key=lambda f: f.cost)
    return np.asarray(best.x), float(best.cost)


def left_out(groups: Sequence[Hashable] | AnyArray) -> Iterator[BoolArray]:
    """For every group in turn, which rows are in it; nothing where there is only one group, for then none can be left out."""
    names: dict[Hashable, int] = {}
    index = np.array([names.setdefault(g, len(names)) for g in groups])
    for group in range(len(names)) if len(names) > 1 else ():
        yield index == group


def held_out(groups: Sequence[Hashable] | AnyArray, errors: Callable[[BoolArray], FloatArray]) -> FloatArray:
    """In row order, what `errors` answers for each group left out (given which rows those are); nan with only one group."""
    out = np.full(len(groups), np.nan)
    for inside in left_out(groups):
        out[inside] = errors(inside)
    return out


def folds(groups: Sequence[Hashable] | AnyArray, count: int) -> IntArray:
    """The fold of every row, whole groups together: the largest first, each into the fold with the fewest rows."""
    _, index, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    count = min(count, len(sizes))
    filled, place = np.zeros(count, dtype=np.int64), np.zeros(len(sizes), dtype=np.int64)
    for group in np.argsort(sizes, kind="stable")[::-1]:
        place[group] = np.argmin(filled)
        filled[place[group]] += sizes[group]
    return place[index]


def sweep_weights(sweeps: Sequence[Hashable] | AnyArray) -> FloatArray:
    """Weights by which a long sweep of one configuration counts as its root; their mean is one."""
    _, index, counts = np.unique(np.asarray(sweeps), return_inverse=True, return_counts=True)
    weights = 1.0 / np.sqrt(counts[index])
    return np.asarray(weights / weights.mean())
