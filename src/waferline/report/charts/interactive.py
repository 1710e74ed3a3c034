"""A chart as Plotly's description of a figure, in plain data: nothing of Plotly is imported to make one."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from waferline.encode import dumps
from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.report.charts.log_ticks import log_ticks
from waferline.report.charts.theme import FONT, THEMES, Theme, symbol

_GAP = 72  # pixels between panels, less where they share their x axis


def figure(chart: Chart, *, dark: bool = False) -> dict[str, Any]:
    """`data` and `layout` as plotly.js takes them."""
    theme = THEMES[dark]
    data: list[dict[str, Any]] = []
    layout = _layout(chart, theme)
    said: set[str] = set()
    for number, (panel, place) in enumerate(zip(chart.panels, _places(chart), strict=True)):
        tail = "" if number == 0 else str(number + 1)
        for series in panel.series:
            trace = _trace(series, panel, theme) | {"xaxis": f"x{tail}", "yaxis": f"y{tail}"}
            trace |= {
                "legendgroup": html.escape(series.name),
                "showlegend": series.name in chart.legend and series.name not in said,
            }
            said.add(series.name)
            data.append(trace)
        x, y = (_axis(axis, theme, panel, side) for axis, side in ((panel.x, "x"), (panel.y, "y")))
        left, right, low, high = place
        if any(
            series.kind == "heat" for series in panel.series
        ):  # cells are square, and each map has its scale beside it
            x, y = x | {"constrain": "domain"}, y | {"scaleanchor": f"x{tail}", "constrain": "domain"}
            data[-1]["colorbar"] |= {"x": right + 0.005, "y": (low + high) / 2, "len": high - low, "thickness": 14}
        layout[f"xaxis{tail}"] = x | {"domain": [left, right], "anchor": f"y{tail}"}
        layout[f"yaxis{tail}"] = y | {"domain": [low, high], "anchor": f"x{tail}"}
        if _same_names(chart) and number % chart.columns:
            layout[f"yaxis{tail}"]["showticklabels"] = False
        if chart.joined and number:
            layout[f"xaxis{tail}"]["matches"] = "x"
        if chart.joined and number < len(chart.panels) - 1:
            layout[f"xaxis{tail}"]["showticklabels"] = False
        if panel.title:
            layout["annotations"].append(
                {"text": f"<b>{html.escape(panel.title)}</b>", "x": left, "y": high, "xref": "paper", "yref": "paper",
                 "xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": {"size": 13}}
            )  # fmt: skip
        for at, up, text in panel.labels:
            layout["annotations"].append(
                {"x": _logged(at, panel.x), "y": _logged(up, panel.y), "text": html.escape(text), "xref": f"x{tail}",
                 "yref": f"y{tail}", "showarrow": False, "yanchor": "bottom", "xanchor": panel.towards(at),
                 "font": {"size": 11, "color": theme.quiet}}
            )  # fmt: skip
    return {"data": data, "layout": layout}


def page(title: str, figures: Sequence[dict[str, Any]], *, dark: bool = False) -> str:
    """One HTML file with the figures and what draws them."""
    from plotly.offline import get_plotlyjs

    theme, spec, title = THEMES[dark], dumps(figures, indent=None).replace("</", "<\\/"), html.escape(title, quote=True)
    style = f"body{{margin:1rem auto;max-width:70rem;background:{theme.ground};color:{theme.ink};font-family:{FONT}}}"
    places = "".join(f"<div id=chart{n} role=img aria-label='{title}'></div>" for n in range(len(figures)))
    draw = "figures.forEach((f,n)=>Plotly.newPlot('chart'+n,{config:{responsive:true,displaylogo:false},...f}))"
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{style}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><main>{places}</main><script>const figures={spec};{draw}</script></body></html>"
    )


def _layout(chart: Chart, theme: Theme) -> dict[str, Any]:
    left = {"x": 0, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "top", "align": "left"}
    small = {"size": 11, "color": theme.quiet}
    note = {"text": html.escape(chart.note), "y": 0, "yshift": -44, "showarrow": False, "font": small, **left}
    title = {"text": f"<b>{html.escape(chart.title)}</b>", "font": {"size": 16}, "x": 0.01, "y": 1 - 22 / chart.height}
    names = {
        "orientation": "h",
        "x": 0.01,
        "xref": "container",
        "xanchor": "left",
        "yref": "container",
        "yanchor": "middle",
    }
    return {
        "title": title | {"xanchor": "left"},
        "height": chart.height,
        "autosize": True,
        "font": {"family": FONT, "size": 12, "color": theme.ink},
        "paper_bgcolor": theme.ground,
        "plot_bgcolor": theme.ground,
        "margin": {
            "l": 64,
            "r": 20,
            "t": (30 if chart.title else 0) + (64 if chart.legend else 38),
            "b": 52 + (22 if chart.note else 0),
        },
        "legend": names | {"y": 1 - (50 if chart.title else 18) / chart.height},
        "hoverlabel": {
            "align": "left",
            "bgcolor": theme.ground,
            "font": {"family": FONT, "size": 12, "color": theme.ink},
        },
        "barmode": "overlay",
        "bargap": 0.3,
        "annotations": [note] if chart.note else [],
    }


def _places(chart: Chart) -> list[tuple[float, float, float, float]]:
    """(left, right, low, high) of every panel as shares of the plot, the first one top left."""
    rows = -(-len(chart.panels) // chart.columns)
    between = 0.07 if chart.joined else _GAP / chart.height
    apart = 0.05 if _same_names(chart) else 0.16
    weights = [max(p.weight for p in chart.panels[r * chart.columns : (r + 1) * chart.columns]) for r in range(rows)]
    free = 1 - between * (rows - 1)
    wide = (1 - apart * (chart.columns - 1)) / chart.columns
    found, top = [], 1.0
    for row, weight in enumerate(weights):
        low = top - free * weight / sum(weights)
        for column in range(min(chart.columns, len(chart.panels) - row * chart.columns)):
            left = column * (wide + apart)
            found.append((left, left + wide, max(low, 0.0), top))
        top = low - between
    return found


def _same_names(chart: Chart) -> bool:
    """Whether panels side by side have the same categories, which then stand once, at the left."""
    return chart.columns > 1 and len({panel.y.names for panel in chart.panels}) == 1 and bool(chart.panels[0].y.names)


def _logged(value: float, axis: Axis) -> float:
    return math.log10(value) if axis.log else value


def _axis(axis: Axis, theme: Theme, panel: Panel, side: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "title": {"text": html.escape(axis.title)}, "gridcolor": theme.grid, "linecolor": theme.quiet, "zeroline": False,
        "automargin": True, "tickfont": {"color": theme.ink},
    }  # fmt: skip
    if axis.names:
        return made | {"type": "category", "categoryorder": "array", "categoryarray": list(axis.names), "showgrid": False,
                       "range": [-0.6, len(axis.names) - 0.4]}  # fmt: skip
    if axis.share:
        made |= {"tickformat": ".0%"}
    elif axis.unit:
        made |= {"tickformat": "~s", "ticksuffix": html.escape(axis.unit)}
    else:  # a prefix would say thousandths of nothing
        made |= {"exponentformat": "SI"}
    if axis.log:
        at, told = log_ticks(axis, [v for s in panel.series for v in getattr(s, side)])
        made |= {"type": "log", "tickvals": at, "ticktext": [html.escape(text) for text in told]}
    if axis.low is not None and axis.high is not None:
        ends = [_logged(axis.low, axis), _logged(axis.high, axis)]
        made["range"] = ends[::-1] if axis.turned else ends
    elif axis.turned:
        made["autorange"] = "reversed"
    elif not axis.log:
        made["rangemode"] = "tozero"
    return made


def _plain(values: Any) -> list[Any]:
    return [v.item() if isinstance(v, np.generic) else v for v in values]


def _trace(series: Series, panel: Panel, theme: Theme) -> dict[str, Any]:
    """One series as plotly.js draws it."""
    colour = theme.colour(series.colour)
    made: dict[str, Any] = {"name": html.escape(series.name), "x": _plain(series.x), "y": _plain(series.y)}
    if len(series.text):
        made |= {
            "text": [html.escape(t).replace("\n", "<br>") for t in series.text],
            "hovertemplate": "%{text}<extra></extra>",
        }
    elif series.colour in ("quiet", "ink"):
        made["hoverinfo"] = "skip"
    if len(series.links):
        made["customdata"] = list(series.links)
    flat = bool(panel.y.names)  # bars lie
    if series.kind == "heat":
        cells = np.asarray(series.cells)
        grid = {"x0": 0, "dx": series.step, "y0": 0, "dy": series.step}
        bar = {"title": {"text": html.escape(series.name), "side": "right"}}
        return {"type": "heatmap", "z": cells.tolist(), **grid, "colorscale": theme.heat[0], "colorbar": bar}
    if series.kind == "bars":
        made |= {
            "type": "bar",
            "orientation": "h" if flat else "v",
            "marker": {"color": colour},
            "textposition": "none",
        }
        made |= _whiskers(series, "x" if flat else "y", theme) | (
            {"base": list(series.base)} if len(series.base) else {}
        )
    elif series.kind in ("points", "ticks"):
        mark = {"color": colour, "size": series.size, "symbol": symbol(series.colour)}
        if series.kind == "ticks":
            mark |= {
                "symbol": "line-ns" if flat else "line-ew",
                "size": max(14, series.size),
                "line": {"width": 2.5, "color": colour},
            }
        else:
            mark |= {"line": {"width": 1, "color": theme.ground}, "opacity": 0.9}
        made |= {"type": "scatter", "mode": "markers", "marker": mark} | _whiskers(series, "x" if flat else "y", theme)
    else:
        line = {"color": colour, "width": 2, "dash": "dash" if series.dashed else "solid"}
        made |= {"type": "scatter", "mode": "lines", "line": line | ({"shape": "hv"} if series.kind == "steps" else {})}
        if series.kind == "area":
            made |= {"fill": "tozeroy", "fillcolor": colour + "26"}
    return made


def _whiskers(series: Series, side: str, theme: Theme) -> dict[str, Any]:
    if series.low is None or series.high is None:
        return {}
    middle = np.asarray(series.x if side == "x" else series.y, float)
    up, down = np.asarray(series.high) - middle, middle - np.asarray(series.low)
    made = {
        "type": "data",
        "array": up.tolist(),
        "arrayminus": down.tolist(),
        "color": theme.ink,
        "thickness": 1.3,
        "width": 4,
    }
    return {f"error_{side}": made}
