"""Errors on rows that a fit has not seen: whole machines, models or engines left out, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError
from waferline.evidence.frame import groups, to_columns
from waferline.evidence.rows import Row
from waferline.fit import Errors, left_out

Fitted = TypeVar("Fitted")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The rows of one group, predicted by a fit of all the others."""

    name: str
    rows: int
    median_error: float
    p90_error: float
    coverage: float  # share inside the 90 % interval; nan where no interval was predicted


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Every group left out once. Figures over all rows together, each predicted without its own group."""

    by: str
    groups: tuple[LeftOut, ...]
    predicted: FloatArray  # in row order, nan where a row could not be predicted
    median_error: float
    p90_error: float
    coverage: float


def leave_one_out(
    rows: Sequence[Row],
    by: str,
    fit: Callable[[Sequence[Row]], Fitted],
    predict: Callable[[Fitted, Sequence[Row]], FloatArray],
) -> CrossValidation:
    """Fit on all groups but one and predict that one, for every group of `by` (a column such as hardware or engine).

    `predict` answers with one value a row, or three: value, low90, high90, as an array of shape (rows,) or (3, rows);
    nan where it refuses. Raises: InvalidInputError with fewer than two groups, UnknownNameError for the column.
    """
    columns = to_columns(rows)
    values = np.array([row.value for row in rows])
    answers, parts = np.full((3, len(rows)), np.nan), []
    for inside in left_out(groups(columns, by)):
        mine, others = ([r for r, k in zip(rows, keep, strict=True) if k] for keep in (inside, ~inside))
        answers[:, inside] = _three(predict(fit(others), mine), len(mine))
        name = str(columns[by][np.argmax(inside)])
        parts.append(LeftOut(name, len(mine), *_figures(answers[:, inside], values[inside])))
    if not parts:
        raise InvalidInputError(f"leaving one {by} out needs at least two of them")
    return CrossValidation(by, tuple(parts), answers[0], *_figures(answers, values))


def _three(answer: FloatArray, rows: int) -> FloatArray:
    """(value, low, high) of a prediction that may have no interval."""
    answer = np.asarray(answer, dtype=np.float64)
    if answer.shape == (3, rows):
        return answer
    if answer.shape != (rows,):
        raise InvalidInputError(f"a prediction of {rows} rows has shape ({rows},) or (3, {rows}), not {answer.shape}")
    return np.stack([answer, np.full(rows, np.nan), np.full(rows, np.nan)])


def _figures(answers: FloatArray, values: FloatArray) -> tuple[float, float, float]:
    """(median error, 90th percentile, coverage) of the answered rows."""
    answered = np.isfinite(answers[0])
    with np.errstate(divide="ignore"):  # a prediction of nothing is off by all of the value
        errors = Errors.of(np.log(answers[0] / values))
    bounded = answered & np.isfinite(answers[1]) & np.isfinite(answers[2])
    inside = (answers[1, bounded] <= values[bounded]) & (values[bounded] <= answers[2, bounded])
    coverage = float(inside.mean()) if bounded.any() else float("nan")
    return errors.median, errors.p90, coverage
