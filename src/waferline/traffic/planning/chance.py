"""How likely it is that a simulated latency is inside its goal on a real server, from what simulation missed on published runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from waferline.catalog.yaml_file import read_packaged
from waferline.traffic.slo import Goal

_TAIL = 90.0  # percentiles from here on have errors of their own


def kind_of(metric: str, percentile: float | None) -> str:
    """The class of latencies whose errors are alike; a goal for every request is one for a tail."""
    return f"{metric}_tail" if percentile is None or percentile >= _TAIL else metric


def chance(engine: str, seen: Mapping[Goal, float]) -> float:
    """That every goal holds, given the simulated latency of each.

    Errors of one metric are one error, those of several taken for independent: TTFT and TPOT of 97 runs correlate by 0.53.
    How honest that is: `python -m benchmarks.plan_chance`.
    """
    table = read_packaged("plan_fits.yaml")
    rows = table["engines"].get(engine, table["engines"]["default"])
    least: dict[str, float] = {}
    for goal, value in seen.items():
        errors = rows.get(kind := kind_of(goal.metric, goal.percentile), table["engines"]["default"][kind])
        likely = below(float(np.log(goal.limit_s / max(value, 1e-9))), errors, table["levels"])
        least[goal.metric] = min(least.get(goal.metric, 1.0), likely)
    return float(np.prod([*least.values()]))


def keeps_up(engine: str, room: float) -> float:
    """That a server keeps up whose simulated capacity is `room` times the rate: steps that take longer serve as much less."""
    table = read_packaged("plan_fits.yaml")
    errors = table["engines"].get(engine, {}).get("tpot", table["engines"]["default"]["tpot"])
    return below(float(np.log(room)), errors, table["levels"])


def below(room: float, errors: list[float], levels: list[float]) -> float:
    """Share of the errors (their quantiles at `levels`) that are at most `room`: beyond the ends, as far again as to the next."""
    first, last = 2 * errors[0] - errors[1], 2 * errors[-1] - errors[-2]
    return float(np.interp(room, [first, *errors, last], [0.0, *levels, 1.0]))
