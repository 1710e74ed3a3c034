"""Charts as pictures, PNG or SVG, drawn by Matplotlib (extra `plot`)."""

from __future__ import annotations

import io
from typing import Any

from waferline.errors import UnsupportedError
from waferline.report.charts.chart import COLOURS, Chart, Panel, Series

_INK = {False: ("#1f2933", "#e4e7eb", "#ffffff"), True: ("#e6e9ee", "#2c343f", "#12161c")}  # text, grid, paper
_QUIET = "#8a94a0"
_WIDTH, _DOTS = 9.0, 100  # inches, dots an inch


def image_of(chart: Chart, kind: str, *, dark: bool = False) -> bytes:
    """The chart as the bytes of a PNG or SVG file. Raises: UnsupportedError without Matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UnsupportedError(
            "PNG and SVG are drawn by Matplotlib, which is not installed",
            hint="pip install 'waferline[plot]', or write .html",
        ) from None
    ink, grid, paper = _INK[dark]
    figure = Figure(figsize=(_WIDTH, chart.height / _DOTS), dpi=_DOTS, layout="constrained", facecolor=paper)
    FigureCanvasAgg(figure)
    shares = [panel.share for panel in chart.panels]
    axes = figure.subplots(
        len(chart.panels),
        1,
        sharex=len(chart.panels) > 1 and not chart.has_bars,
        squeeze=False,
        gridspec_kw={"height_ratios": shares},
    )
    for panel, ax in zip(chart.panels, axes[:, 0], strict=True):
        _panel(ax, panel, ink, grid, paper, last=chart.has_bars or panel is chart.panels[-1])
    figure.suptitle(chart.title, color=ink, x=0.01, ha="left", fontsize=13)
    if chart.note:
        figure.supxlabel(chart.note, color=_QUIET, x=0.01, ha="left", fontsize=8, wrap=True)
    out = io.BytesIO()
    figure.savefig(out, format=kind, facecolor=paper, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _panel(ax: Any, panel: Panel, ink: str, grid: str, paper: str, *, last: bool) -> None:
    ax.set_facecolor(paper)
    ends: dict[Any, float] = {}
    for s in panel.series:
        _draw(ax, s, ends)
    if panel.x_log:
        ax.set_xscale("log")
    if panel.y_log:
        ax.set_yscale("log")
    if panel.from_zero:
        ax.set_ylim(bottom=0)
    if any(s.kind == "bars" for s in panel.series):
        ax.invert_yaxis()
    ax.grid(True, color=grid, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=ink, labelsize=9)
    for side in ax.spines.values():
        side.set_color(grid)
    if last:
        ax.set_xlabel(panel.x_title, color=ink, fontsize=10)
    ax.set_ylabel(panel.y_title, color=ink, fontsize=10)
    if sum(not s.quiet for s in panel.series) > 1:
        ax.legend(fontsize=8, frameon=False, labelcolor=ink, loc="best")


def _draw(ax: Any, s: Series, ends: dict[Any, float]) -> None:
    colour = _QUIET if s.quiet else COLOURS[s.colour % len(COLOURS)]
    label = "_nolegend_" if s.quiet else s.name
    if s.kind == "bars":
        left = [ends.get(name, 0.0) for name in s.x]
        ax.barh(list(map(str, s.x)), list(s.y), left=left, color=colour, label=label)
        ends.update({name: start + value for name, start, value in zip(s.x, left, s.y, strict=True)})
        return
    if s.low is not None and s.high is not None:
        spread = [[y - a for a, y in zip(s.low, s.y, strict=True)], [b - y for b, y in zip(s.high, s.y, strict=True)]]
        ax.errorbar(s.x, s.y, yerr=spread, fmt="none", ecolor=colour, elinewidth=1, capsize=2)
    if s.kind == "dots":
        ax.scatter(s.x, s.y, s=26, color=colour, label=label, alpha=0.85, linewidths=0)
    elif s.kind == "step":
        ax.step(s.x, s.y, where="post", color=colour, label=label, linewidth=1.2)
    else:
        ax.plot(
            s.x, s.y, color=colour, label=label, linewidth=0.8 if s.quiet else 1.6, linestyle=":" if s.quiet else "-"
        )
        if s.kind == "area":
            ax.fill_between(s.x, s.y, color=colour, alpha=0.15)
