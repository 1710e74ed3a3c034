"""Service-level objectives in words: `ttft=500ms,tpot=30ms` for every request, `p99-ttft=1s` for a percentile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError, unknown
from waferline.units import to_si

_GOAL = re.compile(r"(?:p(\d{1,2}(?:\.\d+)?)-)?([a-z0-9]+)\s*(?:<=|=)\s*(.+)")
_METRICS = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class Goal:
    """At most `limit_s` seconds of `metric`, at the percentile `percentile` of all requests; None holds every request to it."""

    metric: str
    limit_s: float
    percentile: float | None = None

    @property
    def name(self) -> str:
        return f"p{self.percentile:g}-{self.metric}" if self.percentile is not None else self.metric


def goals_of(text: str) -> tuple[Goal, ...]:
    """The goals that a text names. Raises: InvalidInputError, UnknownNameError."""
    found = []
    for part in text.split(","):
        match = _GOAL.fullmatch(part.strip().lower())
        if match is None:
            raise InvalidInputError(f"SLO '{part.strip()}' is not of the form ttft=500ms or p99-tpot=30ms")
        if match[2] not in _METRICS:
            raise unknown("SLO metric", match[2], _METRICS)
        limit = float(to_si(f"SLO {match[2]}", match[3], "second"))
        if not 0.0 < limit < np.inf:
            raise InvalidInputError(f"SLO '{part.strip()}': the limit must be above 0")
        found.append(Goal(match[2], limit, float(match[1]) if match[1] else None))
    return tuple(found)


def against(goals: tuple[Goal, ...], per_request: Mapping[str, Any], duration_s: float) -> dict[str, Any]:
    """Share and rate of requests that meet all goals for every request (goodput), and whether each goal is met.

    A goal without a percentile is met when 99 % of the requests meet it.
    """
    good = np.ones(len(per_request["arrival_s"]), bool)
    met = {}
    for goal in goals:
        values = per_request[f"{goal.metric}_s"]
        inside = ~(values > goal.limit_s)  # a request of one token has no TPOT to miss
        if goal.percentile is None:
            good &= inside
        met[goal.name] = bool(inside.mean() * 100.0 >= (goal.percentile or 99.0))
    return {
        "goodput_share": float(good.mean()),
        "goodput_request_per_s": float(good.sum()) / duration_s,
        "slo_met": met,
    }
