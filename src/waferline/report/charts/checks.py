"""A study as a picture: computed over published, a point a quantity."""

from __future__ import annotations

from waferline.evidence.studies.study import VERDICTS, StudyReport
from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.text import cut


def study_chart(report: StudyReport) -> Chart:
    """Every quantity that has both values, by verdict; a mark where they would agree."""
    pairs = [(cut(c.quantity, 60), c) for c in report.checks if c.published and c.computed is not None]
    names = tuple(dict.fromkeys(name for name, _ in pairs))[::-1]
    points = []
    for n, verdict in enumerate(VERDICTS):
        mine = [(name, c) for name, c in pairs if c.verdict == verdict]
        if mine:
            ratios = [c.computed / c.published for _, c in mine if c.computed is not None and c.published]
            told = [f"{c.quantity}\n{c.verdict_text}" for _, c in mine]
            points.append(
                Series(name=verdict, kind="points", x=ratios, y=[name for name, _ in mine], text=told, colour=n)
            )
    marks = Series(name="agreement", kind="ticks", x=[1.0] * len(names), y=names, colour="ink")
    panel = Panel(series=(*points, marks), x=Axis(title="computed over published"), y=Axis(names=names))
    return Chart(title=report.study.title, panels=(panel,), height=150 + 24 * len(names))
