"""What would change a plan: room below its goals, prices, rates, goals that cost money; what is nearest when nothing holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from waferline.text import number
from waferline.traffic.planning.candidate import Asked, Candidate
from waferline.traffic.planning.trial import Trial, Trials

_RATES = 10.0  # times the rate, up and down, in which another choice is looked for


@dataclass(frozen=True, slots=True)
class Change:
    """kind: slack, price, rate, flip or goal; value: the figure it is about; text: what happens there."""

    kind: str
    value: float
    text: str


def changes(every: Sequence[Candidate], trials: Trials, best: Trial, runner_up: Trial | None) -> tuple[Change, ...]:
    """What would make another plan the better one."""
    found = [
        Change(
            "slack",
            g.limit_s / v - 1.0,
            f"{g.name} has {1.0 - v / g.limit_s:.0%} of its goal left ({v:.3g} of {g.limit_s:.3g} s)",
        )
        for g, v in best.seen.items()
        if v > 0.0
    ]
    if runner_up is not None:
        found += _prices(best.candidate, runner_up.candidate)
        found += _rates(trials, best, runner_up)
    elif (most := trials.most_rate(best)) is not None:
        found.append(_most(most, best.candidate))
    return (*found, *_goals(every, trials.asked, best.candidate))


def _prices(best: Candidate, other: Candidate) -> list[Change]:
    """The price at which the runner-up costs as much."""
    if best.device.name == other.device.name or not (np.isfinite(best.usd_per_h) and np.isfinite(other.usd_per_h)):
        return []
    ratio = other.usd_per_h / best.usd_per_h
    dearer = f"an hour of {best.device.name} above ${best.usd_per_h / (best.devices) * ratio:.2f}"
    cheaper = f"one of {other.device.name} below ${other.usd_per_h / other.devices / ratio:.2f}"
    return [Change("price", ratio, f"{dearer}, or {cheaper}: {described(other)}")]


def _most(rate: float, c: Candidate) -> Change:
    return Change("rate", rate, f"up to {number(rate)} requests/s: the same {c.replicas} replicas hold the goals")


def _rates(trials: Trials, best: Trial, runner_up: Trial) -> list[Change]:
    """How far the rate may rise, and the nearest rates at which the runner-up is cheaper."""
    rate, limits = trials.traffic.rate_per_s, [trials.most_rate(t) for t in (best, runner_up)]
    if rate is None or limits[0] is None or limits[1] is None:
        return []
    found = [_most(limits[0], best.candidate)]
    each = [limit / t.candidate.replicas for limit, t in zip(limits, (best, runner_up), strict=True) if limit]
    unit = [t.candidate.usd_per_h / t.candidate.replicas for t in (best, runner_up)]
    if not np.isfinite(unit).all():
        unit = [float(t.candidate.devices / t.candidate.replicas) for t in (best, runner_up)]
    if trials.options.prefill_replicas or best.options.prefill_replicas or runner_up.options.prefill_replicas:
        return found
    tried = np.geomspace(rate / _RATES, rate * _RATES, 2001)
    cost = [np.maximum(np.ceil(tried / r - 1e-9), 1.0) * u for r, u in zip(each, unit, strict=True)]
    other = tried[cost[1] < cost[0]]
    for word, side in (("above", other[other > rate][:1]), ("below", other[other < rate][-1:])):
        for at in side:
            found.append(
                Change(
                    "flip",
                    float(at),
                    f"{word} {number(float(at))} requests/s: {described(runner_up.candidate, counted=False)}",
                )
            )
    return found


def _goals(every: Sequence[Candidate], asked: Asked, best: Candidate) -> list[Change]:
    """For each goal, what would be cheaper without it, in closed form."""
    found = []
    for goal in asked.goals:
        cheaper = (c for c in every if c.missed and set(c.missed) <= {goal.name} and c.order < best.order)
        c = min(cheaper, key=lambda c: c.values.get(f"{goal.metric}_s", math.inf), default=None)
        if c is not None:
            limit = c.values[f"{goal.metric}_s"]
            found.append(
                Change("goal", limit, f"{goal.name} of {limit:.3g} s instead of {goal.limit_s:.3g} s: {described(c)}")
            )
    return found


def nearest(every: Sequence[Candidate], tried: Sequence[Trial], trials: Trials) -> str:
    """What could be asked instead, where nothing holds."""
    budget, asked = trials.budget, trials.asked
    good = [c for c in every if not c.missed]
    if budget is not None and good and not any(c.usd_per_h <= budget for c in good):
        priced = [c for c in good if np.isfinite(c.usd_per_h)]
        if not priced:
            return "no price of these machines is known: leave the budget out"
        return f"a budget of ${priced[0].usd_per_h:.2f}/h: {described(priced[0])}"
    ran = [t for t in tried if math.isfinite(t.over) and t.verdict != "overloaded"]
    if ran:
        t = min(ran, key=lambda t: t.over)
        sure = f", {t.probability:.0%} sure" if t.over <= 1.0 else ""
        return f"{_attained({g.name: v for g, v in t.seen.items()})} with {described(t.candidate)}{sure}"
    over = lambda c: max((c.values.get(f"{g.metric}_s", 0.0) / g.limit_s for g in asked.goals), default=0.0)  # noqa: E731
    c = min(every, key=over)
    if not asked.goals:
        reasons = dict.fromkeys(t.verdict for t in tried if not t.ran)
        return "; ".join(reasons) or f"a lower rate: {described(c)} is overloaded"
    means = _attained({g.name: c.values.get(f"{g.metric}_s", math.nan) for g in asked.goals})
    return f"means of {means} with {described(c)}; percentiles under this load are above them"


def _attained(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name}={value * 1e3:.4g}ms" for name, value in seconds.items())


def described(c: Candidate, *, counted: bool = True) -> str:
    """A candidate in words."""
    spread = "".join(f" {name}{n}" for name in ("tp", "pp", "ep", "dp") if (n := getattr(c, name)) > 1)
    cache = f", KV {c.kv}" if c.kv else ""
    if not counted:
        return f"{c.device.name} {c.precision}{spread}{cache}"
    cost = f"${c.usd_per_h:.2f}/h" if np.isfinite(c.usd_per_h) else "price not known"
    return f"{c.devices} × {c.device.name} {c.precision}{spread}{cache} ({cost})"
