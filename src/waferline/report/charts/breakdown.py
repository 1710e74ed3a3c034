"""Where the time of an answer goes: a bar for each operator of each phase, longest first, beside its speed of light."""

from __future__ import annotations

import numpy as np

from waferline.errors import UnsupportedError
from waferline.predict.explain import ENGINE, phase_total_s
from waferline.predict.operator_row import OperatorRow
from waferline.predict.result import Result
from waferline.predict.run import Answer
from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.report.charts.roofline import said, subject
from waferline.text import metric

_MOST = 12  # operators by name; the rest is one bar


def breakdown(answer: Answer) -> Chart:
    """Seconds by operator of every phase. Raises: UnsupportedError for an answer that names no operators."""
    rows = list(answer.result.operators)
    if not rows:
        raise UnsupportedError(f"{answer.kind} names no operators", where="chart")
    phases = list(dict.fromkeys(row.phase for row in rows))
    panels = tuple(_panel(answer.result, phase, [r for r in rows if r.phase == phase]) for phase in phases)
    tall = sum(len(panel.y.names) for panel in panels)
    return Chart(
        title=f"Where the time goes: {subject(answer)}", panels=panels, height=150 + 24 * tall + 70 * len(panels)
    )


def _panel(result: Result, phase: str, rows: list[OperatorRow]) -> Panel:
    rows.sort(key=lambda row: -_one(row.time_s))
    total = phase_total_s(result, phase, rows)
    bars = [(row.name, _one(row.time_s), _one(row.light_s), said(row)) for row in rows[:_MOST]]
    rest = rows[_MOST:]
    if rest:
        time, light = sum(_one(r.time_s) for r in rest), sum(_one(r.light_s) for r in rest)
        bars.append((f"{len(rest)} more", time, light, "\n".join(r.name for r in rest)))
    engine = total - sum(_one(row.time_s) for row in rows)
    if engine > total * 1e-6:
        bars.append((ENGINE, engine, 0.0, f"{ENGINE}: {metric(engine, 's')}"))
    bars.reverse()  # the first of an axis stands below
    names = tuple(name for name, *_ in bars)
    shown = [f"{text}\n{share:.0%} of {phase}" for (_, time, _, text) in bars for share in (time / total,)]
    expected = Series(name="expected", kind="bars", x=[b[1] for b in bars], y=names, text=shown)
    bounds = Series(name="speed of light", kind="ticks", x=[b[2] for b in bars], y=names, colour=1, text=shown)
    return Panel(
        series=(expected, bounds),
        x=Axis(unit="s"),
        y=Axis(names=names),
        title=f"{phase}: {metric(total, 's')}",
        weight=len(bars) + 1,
    )


def _one(value: object) -> float:
    return float(np.asarray(value).flat[0])
