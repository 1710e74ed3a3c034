"""A small learned predictor of CPU benchmarks, and the two ways to test it: by machine, and (wrongly) by row.

Ridge regression of log score on log hardware features, one intercept a metric. Iterations of one run are nearly equal, so
splitting rows at random puts the answer into the training set; only leaving out whole machines says anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError

_FEATURES = ("cores_per_socket", "all_core_ghz", "dimms", "dimm_gb", "mt_per_s")
_RIDGE = 0.1  # of standardised features; fixed, never tuned on held-out rows


@dataclass(frozen=True, slots=True)
class Scores:
    """Rows: features (rows, features) in logarithms, metric and machine of each row, and its positive score."""

    features: FloatArray
    metric: Sequence[str]
    machine: Sequence[str]
    score: FloatArray

    def __post_init__(self) -> None:
        if np.any(self.score <= 0):
            raise InvalidInputError(f"score {self.score.min():g}", hint="scores are positive")

    @classmethod
    def of_iterations(cls, rows: Sequence[Mapping[str, str]]) -> Scores:
        """Every iteration of rows that keep only their mean, least and largest: of two or three, these give them all."""
        features, metric, machine, score = [], [], [], []
        for row in rows:
            low, high, count = float(row["least"]), float(row["largest"]), int(row["iterations"])
            features += [np.log([float(row[name]) for name in _FEATURES])] * count
            metric += [f"{row['suite']} {row['metric']}"] * count
            machine += [row["hardware"]] * count
            score += [low, high] + ([3 * float(row["mean"]) - low - high] if count == 3 else [])
        return cls(np.array(features), metric, machine, np.array(score))

    def take(self, rows: npt.NDArray[np.intp]) -> Scores:
        metric, machine = ([names[i] for i in rows] for names in (self.metric, self.machine))
        return Scores(self.features[rows], metric, machine, self.score[rows])


def predict(train: Scores, test: Scores) -> FloatArray:
    """Scores of `test`; nan where `train` has no row of the metric."""
    means = _metric_means(train)
    centre, spread = train.features.mean(axis=0), train.features.std(axis=0) + 1e-9
    x = (train.features - centre) / spread
    baseline = np.array([means[m] for m in train.metric])
    mixed = x - np.array([x[[m == n for n in train.metric]].mean(axis=0) for m in train.metric])
    target = np.log(train.score) - baseline
    weights = np.linalg.solve(mixed.T @ mixed + _RIDGE * len(x) * np.eye(x.shape[1]), mixed.T @ target)
    found = []
    for row, metric in zip((test.features - centre) / spread, test.metric, strict=True):
        if metric not in means:
            found.append(np.nan)
            continue
        seen = x[[m == metric for m in train.metric]].mean(axis=0)
        found.append(np.exp(means[metric] + (row - seen) @ weights))
    return np.array(found)


def predict_mean(train: Scores, test: Scores) -> FloatArray:
    """The mean of the metric over the training rows: what any predictor has to beat."""
    means = _metric_means(train)
    return np.array([np.exp(means[m]) if m in means else np.nan for m in test.metric])


def _metric_means(train: Scores) -> dict[str, float]:
    logs = np.log(train.score)
    return {m: float(logs[[n == m for n in train.metric]].mean()) for m in set(train.metric)}


def error_by_machine(rows: Scores) -> float:
    """Mean relative error when each machine is left out in turn; rows whose metric no other machine has are skipped."""
    machine, errors = np.array(rows.machine), []
    for held_out in sorted(set(rows.machine)):
        errors.append(_errors(rows, np.flatnonzero(machine == held_out)))
    return float(np.nanmean(np.concatenate(errors)))


def error_by_row(rows: Scores, folds: int = 5, seed: int = 0) -> float:
    """Mean relative error over random folds of rows. Reported only to show how far it is from the truth."""
    order = np.random.default_rng(seed).permutation(len(rows.score))
    return float(np.nanmean(np.concatenate([_errors(rows, part) for part in np.array_split(order, folds)])))


def _errors(rows: Scores, held_out: npt.NDArray[np.intp]) -> FloatArray:
    kept = np.setdiff1d(np.arange(len(rows.score)), held_out)
    test = rows.take(held_out)
    return np.abs(predict(rows.take(kept), test) / test.score - 1)
