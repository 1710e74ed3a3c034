"""What was simulated for a plan: cost of every finalist, and how its farthest latency stands to its goal."""

from __future__ import annotations

import numpy as np

from waferline.report.charts.chart import Axis, Chart
from waferline.report.charts.scatter import Group, scatter
from waferline.traffic.planning.changes import described
from waferline.traffic.planning.plan import Plan


def plan_chart(plan: Plan) -> Chart:
    """Finalists by dollars an hour (devices, where no price is known); below 1 the goals hold."""
    shown = [t for t in plan.tried if np.isfinite(t.over)]
    priced = all(np.isfinite(t.candidate.usd_per_h) for t in shown)
    chosen = [t for t in (plan.best, plan.runner_up) if t is not None]
    named = {described(t.candidate) for t in chosen}
    others = [t for t in shown if described(t.candidate) not in named]
    groups = [
        ("the plan", chosen[:1]), ("runner-up", chosen[1:]),
        ("holds", [t for t in others if t.holds]), ("misses", [t for t in others if not t.holds]),
    ]  # fmt: skip
    cost = lambda t: t.candidate.usd_per_h if priced else float(t.candidate.devices)  # noqa: E731
    told = lambda t: f"{described(t.candidate)}\n{t.binding}\nholds with {t.probability:.0%}"  # noqa: E731
    points = [
        Group(name=name, x=[cost(t) for t in some], y=[t.over for t in some], text=[told(t) for t in some])
        for name, some in groups
        if some
    ]
    x = Axis(title="dollars an hour" if priced else "devices", log=True)
    return scatter(
        f"{plan.model}: what was simulated", x, Axis(title="farthest latency over its goal", log=True), points
    )
