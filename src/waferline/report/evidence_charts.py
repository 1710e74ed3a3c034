"""Charts of predictions against published values, as Plotly figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from waferline.evidence.check import Report
from waferline.evidence.outcome import Outcome
from waferline.evidence.summary import Figures

# Okabe and Ito (2008): told apart by readers with any colour vision.
COLOURS = {"calibrated": "#0072B2", "transferred": "#009E73", "spec only": "#E69F00"}
_INK, _GRID, _QUIET = "#1f2933", "#e4e7eb", "#7b8794"
_FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_NEAR = 1.25  # the band around agreement

# What a chart shows: (title, axis title, metrics). Seconds and rates never share an axis.
SCATTERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Time per output token", "s", ("tpot_s",)),
    ("Time to first token", "s", ("ttft_s",)),
    ("Throughput of inference", "tokens/s", ("output_tokens_per_s", "prompt_tokens_per_s")),
    ("Throughput, prompt and output together", "tokens/s", ("total_tokens_per_s",)),
    ("Latency of a whole batch", "s", ("latency_s",)),
    ("Samples per second", "1/s", ("samples_per_s",)),
    ("Training, TFLOP/s of one device", "TFLOP/s", ("tflops_per_device",)),
)


def _layout(height: int, **more: object) -> go.Layout:
    axis = {"gridcolor": _GRID, "zeroline": False, "linecolor": _QUIET, "ticks": "outside", "tickcolor": _QUIET}
    return go.Layout(
        height=height,
        font={"family": _FONT, "size": 13, "color": _INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"l": 64, "r": 16, "t": 16, "b": 48},
        hoverlabel={"font": {"family": _FONT, "size": 12}, "align": "left", "bgcolor": "white"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": None},
        xaxis=axis,
        yaxis=axis,
    ).update(more)


def _hover(o: Outcome) -> str:
    r = o.row
    size = " · ".join(
        f"{name} {value:g}"
        for name, value in (("batch", r.batch), ("in", r.input_tokens), ("out", r.output_tokens))
        if value is not None
    )
    devices = f" × {r.devices:g}" if (r.devices or 1) > 1 else ""
    engine = f"{r.engine} {r.engine_version}".strip()
    return f"<b>{r.model}</b> on {r.hardware}{devices}<br>{r.weight_format} · {engine}<br>{size}<br>{r.id}"


def scatter(outcomes: Sequence[Outcome], unit: str) -> go.Figure:
    """Predicted over published value, both logarithmic, one colour a tier, with agreement and a band around it."""
    figure = go.Figure(layout=_layout(440))
    values = [v for o in outcomes for v in (o.row.value, o.predicted or o.row.value)]
    low, high = min(values) / 1.6, max(values) * 1.6
    edge = [low, high]
    band = {"x": [*edge, *edge[::-1]], "y": [low * _NEAR, high * _NEAR, high / _NEAR, low / _NEAR]}
    figure.add_scatter(
        **band,
        mode="lines",
        fill="toself",
        fillcolor="rgba(123,135,148,0.15)",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=edge, y=edge, mode="lines", line={"color": _INK, "width": 1}, hoverinfo="skip", showlegend=False
    )
    for tier, colour in COLOURS.items():
        mine = [o for o in outcomes if o.tier == tier]
        if mine:
            figure.add_scattergl(
                x=[_short(o.row.value) for o in mine],
                y=[_short(o.predicted) for o in mine],
                mode="markers",
                name=f"{tier} ({len(mine):,})",
                marker={"color": colour, "size": 5, "opacity": 0.55},
                text=[_hover(o) for o in mine],
                hovertemplate="%{text}<br>published %{x:.4g} " + unit + ", predicted %{y:.4g}<extra></extra>",
            )
    span = [math.log10(low), math.log10(high)]
    axis = {"type": "log", "range": span, "dtick": 1, "exponentformat": "power"}
    figure.update_xaxes(title=f"published, {unit}", **axis)
    figure.update_yaxes(title=f"predicted, {unit}", **axis)
    return figure


def _short(value: float | None) -> float:
    """Four digits are more than a pixel shows, and keep the page small."""
    return float(f"{value:.4g}")


def error_bars(groups: Sequence[Figures], most: int = 25) -> go.Figure:
    """Median error of the largest scored groups, with the 90th percentile."""
    shown = sorted((g for g in groups if g.scored), key=lambda g: -g.scored)[:most][::-1]
    names = [f"{_clip(g.name)}  ({g.scored:,})" for g in shown]
    figure = go.Figure(layout=_layout(120 + 24 * len(shown)))
    figure.add_bar(
        y=names,
        x=[g.median_error for g in shown],
        orientation="h",
        marker={"color": COLOURS["calibrated"]},
        name="median error",
        hovertemplate="%{y}: median %{x:.1%}<extra></extra>",
    )
    figure.add_scatter(
        y=names,
        x=[g.p90_error for g in shown],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 12, "color": _INK, "line": {"width": 2}},
        name="90th percentile",
        hovertemplate="%{y}: 90th percentile %{x:.1%}<extra></extra>",
    )
    most_error = max((g.median_error for g in shown), default=1.0)
    figure.update_xaxes(title="error", tickformat=".0%", range=[0, min(max(2.2 * most_error, 0.5), 2.0)])
    figure.update_yaxes(automargin=True, ticks="", tickfont={"size": 12}, range=[-0.7, len(shown) - 0.3])
    return figure


def _clip(name: str, most: int = 44) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def distribution(report: Report) -> go.Figure:
    """Share of scored rows within an error, by tier."""
    figure = go.Figure(layout=_layout(380))
    for tier, colour in COLOURS.items():
        errors = np.sort([o.error for o in report.outcomes if o.scored and o.tier == tier])
        if errors.size:
            share = np.arange(1, errors.size + 1) / errors.size
            pick = np.unique(np.linspace(0, errors.size - 1, min(errors.size, 400)).astype(int))
            figure.add_scatter(
                x=[_short(e) for e in np.maximum(errors[pick], 1e-3)],
                y=[_short(s) for s in share[pick]],
                mode="lines",
                line={"color": colour, "width": 2.5},
                name=f"{tier} ({errors.size:,})",
                hovertemplate="%{y:.0%} of rows within %{x:.1%}<extra>" + tier + "</extra>",
            )
    ticks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]
    figure.update_xaxes(
        type="log", range=[-2, math.log10(5)], tickvals=ticks, ticktext=[f"{t:.0%}" for t in ticks], title="error"
    )
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", title="share of rows within it")
    return figure


def coverage(groups: Sequence[Figures], target: float = 0.9) -> go.Figure:
    """Share of rows inside the 90 % interval, for every group, against what it should be."""
    shown = [g for g in groups if g.scored][::-1]
    figure = go.Figure(layout=_layout(110 + 26 * len(shown), showlegend=False))
    figure.add_bar(
        y=[f"{_clip(g.name)}  ({g.scored:,})" for g in shown],
        x=[g.coverage for g in shown],
        orientation="h",
        marker={"color": COLOURS["transferred"]},
        hovertemplate="%{y}: %{x:.0%} inside<extra></extra>",
    )
    figure.add_vline(x=target, line={"color": _INK, "width": 2, "dash": "dot"})
    figure.update_xaxes(range=[0, 1], tickformat=".0%", title="inside their interval (dotted: 90 %)")
    figure.update_yaxes(automargin=True, ticks="", tickfont={"size": 12})
    return figure
