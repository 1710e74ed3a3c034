"""A prediction of one published value, in the unit of its metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray
from waferline.predict.result import OperatorRow

VARIANTS = ("value", "low90", "high90", "light")  # of the predicted times; a rate has its bounds the other way round
_TIERS = ("calibrated", "transferred", "spec only")  # best known first
_LARGE_SHARE = 0.1  # of the time of a pass: an operator below it does not decide how well the pass is known


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction of one row's metric, in the row's unit. `light` is the best value physics allows."""

    value: float
    low90: float
    high90: float
    light: float
    tier: str
    notes: tuple[str, ...] = ()


def answers(values: Mapping[str, FloatArray], tiers: Sequence[str], notes: Sequence[tuple[str, ...]]) -> list[Answer]:
    """Answers from arrays by variant, in row order."""
    low, high = np.minimum(values["low90"], values["high90"]), np.maximum(values["low90"], values["high90"])
    columns = (values["value"], low, high, values["light"])
    rows = zip(*(np.asarray(c).tolist() for c in columns), tiers, notes, strict=True)
    return [Answer(*row) for row in rows]


def tier_of(operators: Sequence[OperatorRow], phase: str) -> str:
    """The worst tier among operators that take a large share of the typical scenario of a phase."""
    shares = dict.fromkeys(_TIERS, 0.0)
    mine = [o for o in operators if o.phase == phase]
    for o in mine:
        shares[o.tier] += float(np.median(o.time_s))
    whole = sum(shares.values()) or 1.0
    return next((tier for tier in reversed(_TIERS) if shares[tier] > _LARGE_SHARE * whole), _TIERS[0])
