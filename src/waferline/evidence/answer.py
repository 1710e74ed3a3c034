"""A prediction of one published value, in the unit of its metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from waferline.arrays import FloatArray, Floats

VARIANTS = ("value", "low90", "high90", "light")  # of the predicted times; a rate has its bounds the other way round


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction of one row's metric, in the row's unit. `light` is the best value physics allows, where it is known."""

    value: float
    low90: float
    high90: float
    light: float | None
    tier: str
    notes: tuple[str, ...] = ()


def answers(values: Mapping[str, FloatArray], tiers: Sequence[str], notes: Sequence[tuple[str, ...]]) -> list[Answer]:
    """Answers from arrays by variant, in row order."""
    low, high = np.minimum(values["low90"], values["high90"]), np.maximum(values["low90"], values["high90"])
    columns = (values["value"], low, high, values["light"])
    rows = zip(*(np.asarray(c).tolist() for c in columns), tiers, notes, strict=True)
    return [Answer(*row) for row in rows]


def widened(answer: Answer, spread: float) -> Answer:
    """An answer to a question of which something was guessed: its interval with a spread (log) of the guess beside its own.

    Independent of each other, the two add as squares. Never beyond the bound.
    """
    bound = answer.light
    if not spread or bound is None or min(answer.low90, answer.value) <= 0 or not math.isfinite(answer.high90):
        return answer
    low = answer.value * math.exp(-math.hypot(math.log(answer.value / answer.low90), spread))
    high = answer.value * math.exp(math.hypot(math.log(answer.high90 / answer.value), spread))
    more_is_better = bound >= answer.value
    return replace(
        answer, low90=low if more_is_better else max(low, bound), high90=min(high, bound) if more_is_better else high
    )


def single(column: FloatArray) -> Floats:
    """A column whose rows agree as one number, which costs the model no pass over them."""
    return float(column[0]) if (column == column[0]).all() else column
