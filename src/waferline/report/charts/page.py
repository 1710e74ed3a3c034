"""Charts as Plotly figures: interactive, in one file that needs nothing else, in light or dark."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from waferline.report.charts.chart import COLOURS, Chart, Panel, Series

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_INK = {False: ("#1f2933", "#e4e7eb", "#ffffff"), True: ("#e6e9ee", "#2c343f", "#12161c")}  # text, grid, paper
_QUIET = "#8a94a0"


def figure_of(chart: Chart, *, dark: bool = False) -> go.Figure:
    """The chart as a figure. dark: light ink on a dark page."""
    ink, grid, paper = _INK[dark]
    heights = [panel.share for panel in chart.panels]
    apart = 70 / chart.height if chart.has_bars else 0.06
    figure = make_subplots(
        rows=len(chart.panels),
        cols=1,
        shared_xaxes=len(chart.panels) > 1 and not chart.has_bars,
        vertical_spacing=min(apart, 0.9 / len(chart.panels)),
        row_heights=[h / sum(heights) for h in heights],
    )
    for row, panel in enumerate(chart.panels, start=1):
        for series in panel.series:
            figure.add_trace(_trace(series), row=row, col=1)
        _axes(figure, panel, row, last=chart.has_bars or row == len(chart.panels))
    figure.update_xaxes(gridcolor=grid, zeroline=False, linecolor=_QUIET)
    figure.update_yaxes(gridcolor=grid, zeroline=False, linecolor=_QUIET)
    figure.update_layout(
        title={"text": chart.title, "x": 0.01, "xanchor": "left", "font": {"size": 16}},
        height=chart.height,
        font={"family": _FONT, "size": 13, "color": ink},
        paper_bgcolor=paper,
        plot_bgcolor=paper,
        margin={"l": 64, "r": 16, "t": 56, "b": 56 if not chart.note else 84},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
        barmode="stack",
        hoverlabel={"align": "left"},
    )
    if chart.note:
        where = {"xref": "paper", "yref": "paper", "x": 0, "y": -56 / chart.height, "yshift": -18}
        font = {"size": 11, "color": _QUIET}
        figure.add_annotation(
            text=chart.note, showarrow=False, xanchor="left", yanchor="top", align="left", font=font, **where
        )
    return figure


def _axes(figure: go.Figure, panel: Panel, row: int, *, last: bool) -> None:
    shown: dict[str, Any] = {"exponentformat": "SI", "row": row, "col": 1}
    figure.update_xaxes(type="log" if panel.x_log else None, title_text=panel.x_title if last else None, **shown)
    figure.update_yaxes(
        type="log" if panel.y_log else None,
        title_text=panel.y_title,
        rangemode="tozero" if panel.from_zero else "normal",
        **shown,
    )
    if any(s.kind == "bars" for s in panel.series):  # the first name above, every name told
        figure.update_yaxes(autorange="reversed", dtick=1, automargin=True, row=row, col=1)


def _trace(s: Series) -> Any:
    colour = _QUIET if s.quiet else COLOURS[s.colour % len(COLOURS)]
    told: dict[str, Any] = {} if s.hover is None else {"hovertext": list(s.hover), "hoverinfo": "text"}
    if s.kind == "bars":
        return go.Bar(
            name=s.name, x=list(s.y), y=list(s.x), orientation="h", marker={"color": colour}, showlegend=False, **told
        )
    error = None
    if s.low is not None and s.high is not None:
        up = [h - y for h, y in zip(s.high, s.y, strict=True)]
        down = [y - low for low, y in zip(s.low, s.y, strict=True)]
        error = {"type": "data", "array": up, "arrayminus": down, "color": colour, "thickness": 1}
    if s.kind == "dots":
        return go.Scatter(name=s.name, x=list(s.x), y=list(s.y), mode="markers", error_y=error,
                          marker={"color": colour, "size": 9, "opacity": 0.85}, **told)  # fmt: skip
    line = {"color": colour, "width": 1 if s.quiet else 2, "shape": "hv" if s.kind == "step" else "linear",
            "dash": "dot" if s.quiet else "solid"}  # fmt: skip
    fill = "tozeroy" if s.kind == "area" else None
    return go.Scatter(name=s.name, x=list(s.x), y=list(s.y), mode="lines", line=line, fill=fill, error_y=error,
                      showlegend=not s.quiet, **told)  # fmt: skip
