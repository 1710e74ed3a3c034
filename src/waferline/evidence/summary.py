"""Error figures of groups of rows: every table of a report and of the accuracy card comes from here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.evidence.outcome import Outcome

GROUPINGS: Mapping[str, Callable[[Outcome], str]] = {
    "source": lambda o: o.row.source or "not stated",
    "machine": lambda o: o.row.hardware or "not stated",
    "phase": lambda o: o.row.phase or "not stated",
    "metric": lambda o: o.row.metric,
    "engine": lambda o: o.row.engine or "not stated",
    "model": lambda o: o.row.model or "not stated",
    "tier": lambda o: o.tier or "refused",
    "stated": lambda o: o.stated,
    "format": lambda o: o.row.weight_format or "not stated",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of a group of rows. Errors are over the scored ones: predicted and not suspect.

    bias: median of predicted over published time, minus one; above zero predictions are too slow.
    coverage: share of scored rows inside their 90 % interval.
    """

    name: str
    rows: int
    predicted: int
    scored: int
    median_error: float
    p90_error: float
    bias: float
    coverage: float
    faster_than_light: int
    refused: Mapping[str, int]

    @property
    def answered(self) -> float:
        """Share of all rows that got a prediction."""
        return self.predicted / self.rows if self.rows else math.nan

    def to_json(self) -> dict[str, Any]:
        numbers = ("median_error", "p90_error", "bias", "coverage", "answered")
        counts = ("name", "rows", "predicted", "scored", "faster_than_light")
        out: dict[str, Any] = {key: getattr(self, key) for key in counts}
        out |= {key: value if math.isfinite(value := getattr(self, key)) else None for key in numbers}
        return out | {"refused": dict(self.refused)}


def figures(name: str, outcomes: Sequence[Outcome], *, suspects: bool = False) -> Figures:
    """The figures of one group; of its suspicious rows alone where `suspects`: they are scored apart."""
    outcomes = [o for o in outcomes if o.suspect] if suspects else outcomes
    scored = [o for o in outcomes if (o.answered if suspects else o.scored)]
    errors = np.array([o.error for o in scored])
    refused = Counter(o.refused_kind for o in outcomes if not o.answered)
    return Figures(
        name=name,
        rows=len(outcomes),
        predicted=sum(o.answered for o in outcomes),
        scored=len(scored),
        median_error=float(np.median(errors)) if scored else math.nan,
        p90_error=float(np.quantile(errors, 0.9)) if scored else math.nan,
        bias=math.expm1(float(np.median([o.slower for o in scored]))) if scored else math.nan,
        coverage=float(np.mean([o.covered for o in scored])) if scored else math.nan,
        faster_than_light=sum(o.faster_than_light for o in outcomes),
        refused=dict(refused.most_common()),
    )


def by(grouping: str, outcomes: Iterable[Outcome]) -> list[Figures]:
    """The figures of every group of `grouping` (a key of `GROUPINGS`), largest first."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(GROUPINGS[grouping](outcome), []).append(outcome)
    return sorted((figures(name, group) for name, group in groups.items()), key=lambda f: (-f.rows, f.name))
