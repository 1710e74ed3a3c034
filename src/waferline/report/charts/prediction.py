"""What `predict` answers as one picture: the roofline, and below it where the time of each phase goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from waferline.predict.compare import Row
from waferline.predict.run import Answer
from waferline.report.charts.breakdown import breakdown
from waferline.report.charts.chart import Chart
from waferline.report.charts.comparison import comparison_chart
from waferline.report.charts.roofline import roofline, subject


def prediction_chart(answer: Answer) -> Chart:
    """Roofline and breakdown. Raises: UnsupportedError for an answer that names no operators."""
    roofs, bars = roofline(answer), breakdown(answer)
    above = replace(roofs.panels[0], title="Roofline", weight=14)
    return replace(roofs, title=subject(answer), panels=(above, *bars.panels), height=420 + bars.height)


def batches_chart(points: Sequence[tuple[tuple[int | None, ...], Answer]]) -> Chart:
    """Answers for several (batch, prompt, output) on one machine as bars, one a point."""
    given = [
        (i, name) for i, name in enumerate(("batch", "prompt", "output")) if any(p[i] is not None for p, _ in points)
    ]
    rows = [Row(", ".join(f"{name} {point[i]}" for i, name in given), answer) for point, answer in points]
    return replace(comparison_chart(rows), title=subject(points[0][1]))
