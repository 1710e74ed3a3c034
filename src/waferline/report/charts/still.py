"""A chart as a picture, drawn by matplotlib: PNG at twice the pixels of a plain screen, SVG with text as text."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.report.charts.log_ticks import log_ticks
from waferline.report.charts.theme import THEMES, Theme, symbol
from waferline.report.table import Block, block_lines
from waferline.text import cut

_DPI = 100
_LETTERS, _LINE = 110, 0.18  # of a picture of text: letters and inches of a line
_MANY = 200  # points of a series
_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "x": "X", "star": "*"}
_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "waferline", "font.size": 9, "text.parse_math": False}


def draw(chart: Chart, ending: str, *, dark: bool = False) -> bytes:
    """The bytes of a .png or .svg file; the same chart gives the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    theme = THEMES[dark]
    with matplotlib.rc_context(_SETTINGS):
        made = Figure((chart.width / _DPI, chart.height / _DPI), dpi=_DPI, facecolor=theme.ground, layout="constrained")
        rows = -(-len(chart.panels) // chart.columns)
        weights = [max(p.weight for p in chart.panels[r * chart.columns :][: chart.columns]) for r in range(rows)]
        grid = made.add_gridspec(rows, chart.columns, height_ratios=weights)
        first: Any = None
        for number, panel in enumerate(chart.panels):
            axes = made.add_subplot(grid[divmod(number, chart.columns)], sharex=first if chart.joined else None)
            first = first or axes
            _panel(axes, panel, theme)
            if chart.joined and number < len(chart.panels) - 1:
                axes.tick_params(labelbottom=False)
                axes.set_xlabel("")
        made.suptitle(cut(chart.title, 110), x=0.01, ha="left", color=theme.ink, fontsize=12, fontweight="bold")
        _legend(made, chart, theme)
        if chart.note:
            made.supxlabel(
                f"{chart.note}\n\n" if chart.legend else chart.note, x=0.01, ha="left", fontsize=8, color=theme.quiet
            )
        return _written(made, ending, theme)


def draw_text(blocks: Iterable[Block], ending: str, *, dark: bool = False) -> bytes:
    """As `draw`, of tables and lines as a terminal shows them: of an answer that has no chart."""
    import matplotlib
    from matplotlib.figure import Figure

    lines = list(block_lines(blocks, _LETTERS))
    theme, high = THEMES[dark], _LINE * (len(lines) + 2)
    with matplotlib.rc_context(_SETTINGS | {"font.family": "monospace"}):
        made = Figure((9.0, high), dpi=_DPI, facecolor=theme.ground)
        for number, (line, style) in enumerate(lines, start=2):
            weight = "bold" if style in ("title", "alarm") else "normal"
            colour = theme.quiet if style in ("header", "note") else theme.ink
            made.text(0.03, 1 - number * _LINE / high, line, color=colour, weight=weight, fontsize=9)
        return _written(made, ending, theme)


def _written(made: Any, ending: str, theme: Theme) -> bytes:
    out = io.BytesIO()
    when = {"Date": None} if ending == ".svg" else {"Software": None}
    made.savefig(out, format=ending[1:], dpi=2 * _DPI, facecolor=theme.ground, metadata=when)
    return out.getvalue()


def _legend(made: Any, chart: Chart, theme: Theme) -> None:
    if not chart.legend:
        return
    known: dict[str, Any] = {}
    for axes in made.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            known.setdefault(name, handle)
    names = [name for name in chart.legend if name in known]
    made.legend([known[n] for n in names], names, loc="outside lower right", ncols=min(len(names), 6), frameon=False,
                labelcolor=theme.ink, fontsize=9, borderpad=0.1)  # fmt: skip


def _panel(axes: Any, panel: Panel, theme: Theme) -> None:
    axes.set_facecolor(theme.ground)
    for series in panel.series:
        _series(axes, series, panel, theme)
    for axis, side in ((panel.x, "x"), (panel.y, "y")):
        _axis(axes, axis, side, theme)
        if axis.log:
            _marked(axes, axis, side, panel)
    if panel.title:
        axes.set_title(panel.title, loc="left", color=theme.ink, fontsize=10, fontweight="bold")
    for x, y, text in panel.labels:
        axes.annotate(
            text, (x, y), (0, 3), textcoords="offset points", ha=panel.towards(x), fontsize=8, color=theme.quiet
        )
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.quiet)
    axes.set_axisbelow(True)


def _marked(axes: Any, axis: Axis, side: str, panel: Panel) -> None:
    """Marks of a logarithmic axis that lie within it, as they are in a page."""
    from matplotlib.ticker import NullFormatter

    low, high = getattr(axes, f"get_{side}lim")()
    at, told = log_ticks(axis, [v for s in panel.series for v in getattr(s, side)])
    kept = [(v, text) for v, text in zip(at, told, strict=True) if low <= v <= high]
    getattr(axes, f"set_{side}ticks")([v for v, _ in kept], [text for _, text in kept])
    getattr(axes, f"{side}axis").set_minor_formatter(NullFormatter())


def _axis(axes: Any, axis: Axis, side: str, theme: Theme) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, PercentFormatter

    mine = axes.xaxis if side == "x" else axes.yaxis
    mine.label.set_color(theme.ink)
    mine.set_label_text(axis.title)
    axes.tick_params(axis=side, colors=theme.ink, which="both", labelsize=8.5)
    if axis.names:
        axes.grid(False, axis=side)
        getattr(axes, f"set_{side}lim")(-0.6, len(axis.names) - 0.4)
        getattr(axes, f"set_{side}ticks")(range(len(axis.names)), [cut(name, 40) for name in axis.names])
        return
    if axis.log:
        getattr(axes, f"set_{side}scale")("log")
    plain = FuncFormatter(lambda value, _: f"{value:,.6g}")
    numbers = EngFormatter(axis.unit, sep=" ") if axis.unit or axis.log else plain
    mine.set_major_formatter(PercentFormatter(1.0, decimals=0) if axis.share else numbers)
    if axis.low is not None or axis.high is not None:
        getattr(axes, f"set_{side}lim")(axis.low, axis.high)
    elif not axis.log and not axis.turned and not axes.images:
        getattr(axes, f"set_{side}lim")(**{"left" if side == "x" else "bottom": min(0, *mine.get_data_interval())})
    if axis.turned:
        mine.set_inverted(True)
    if not axes.images:
        axes.grid(True, axis=side, color=theme.grid, linewidth=0.8)


def _series(axes: Any, series: Series, panel: Panel, theme: Theme) -> None:
    colour, name = theme.colour(series.colour), series.name or None
    if series.kind == "heat":
        cells = np.asarray(series.cells)
        high, wide = (size * series.step for size in cells.shape)
        image = axes.imshow(
            cells, cmap=theme.heat[1], interpolation="nearest", extent=(-0.5, wide - 0.5, high - 0.5, -0.5)
        )
        bar = axes.figure.colorbar(image, ax=axes, label=series.name)
        bar.ax.tick_params(colors=theme.ink)
        bar.ax.yaxis.label.set_color(theme.ink)
        return
    if series.kind == "bars" or panel.y.names or panel.x.names:
        _bars(axes, series, panel, colour, name, theme)
    elif series.kind == "points":
        if series.low is not None and series.high is not None:
            axes.vlines(series.x, series.low, series.high, color=theme.ink, linewidth=1)
        many = len(series.x) > _MANY  # then single points matter less than where they are dense
        axes.plot(series.x, series.y, linestyle="none", marker=_MARKERS[symbol(series.colour)],
                  markersize=series.size * (0.55 if many else 0.75), color=colour, alpha=0.45 if many else 1.0,
                  markeredgecolor=theme.ground, markeredgewidth=0.2 if many else 0.6, label=name)  # fmt: skip
    else:
        style = "steps-post" if series.kind == "steps" else "default"
        axes.plot(series.x, series.y, color=colour, linewidth=1.6, linestyle="--" if series.dashed else "-",
                  drawstyle=style, label=name)  # fmt: skip
        if series.kind == "area":
            axes.fill_between(series.x, series.y, color=colour, alpha=0.15, linewidth=0)


def _bars(axes: Any, series: Series, panel: Panel, colour: str, name: str | None, theme: Theme) -> None:
    flat = bool(panel.y.names)  # bars lie
    names, values = (series.y, series.x) if flat else (series.x, series.y)
    places = np.array([(panel.y.names or panel.x.names).index(n) for n in names], float)
    sizes = np.asarray(values, float)
    if series.kind == "bars":
        start = {"left" if flat else "bottom": list(series.base)} if len(series.base) else {}
        (axes.barh if flat else axes.bar)(places, sizes, 0.7, color=colour, label=name, **start)
    else:
        line = "|" if flat else "_"
        mark, size, edge = (
            (line, max(13, series.size * 0.7), 2.2)
            if series.kind == "ticks"
            else (_MARKERS[symbol(series.colour)], 7, 0.6)
        )
        at = (sizes, places) if flat else (places, sizes)
        axes.plot(*at, linestyle="none", marker=mark, markersize=size, markeredgewidth=edge, color=colour, label=name)
    if series.low is not None and series.high is not None:
        lines = axes.hlines if flat else axes.vlines
        lines(places, series.low, series.high, color=theme.ink, linewidth=1.2)
