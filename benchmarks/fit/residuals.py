"""Residual quantiles and their coverage, from predictions of rows whose groups were not used for fitting."""

from __future__ import annotations

import numpy as np

from waferline.fit import QUANTILES

MIN_ROWS_PER_REGIME = 120
REGIMES = 3


def regimes(predicted_s: np.ndarray, t_s: np.ndarray) -> list[list[float]]:
    """[below_s, q05, q25, q75, q95] of log(measured / predicted), for up to three equally filled ranges of the prediction."""
    count = max(1, min(REGIMES, len(t_s) // MIN_ROWS_PER_REGIME))
    edges = [float(np.quantile(predicted_s, (i + 1) / count)) for i in range(count - 1)] + [float("inf")]
    x, out, low = np.log(t_s / predicted_s), [], 0.0
    for edge in edges:
        inside = (predicted_s >= low) & (predicted_s < edge)
        out.append([edge, *np.quantile(x[inside], QUANTILES).tolist()])
        low = edge
    return out


def covered(table: list[list[float]], predicted_s: np.ndarray, t_s: np.ndarray) -> np.ndarray:
    """Whether each measurement lies in the 90 % interval that `table` gives."""
    index = np.searchsorted([r[0] for r in table[:-1]], predicted_s, side="right")
    low, high = np.array([r[1] for r in table])[index], np.array([r[4] for r in table])[index]
    x = np.log(t_s / predicted_s)
    return (x >= low) & (x <= high)


def coverage(predicted_s: np.ndarray, t_s: np.ndarray, group: np.ndarray, folds: int = 5) -> float:
    """Share of rows inside the 90 % interval when its quantiles come from other groups only."""
    fold = group % folds
    hit = np.zeros(len(t_s), dtype=bool)
    for f in range(folds):
        test = fold == f
        if test.any() and (~test).sum() > 20:
            hit[test] = covered(regimes(predicted_s[~test], t_s[~test]), predicted_s[test], t_s[test])
    return float(hit.mean())
