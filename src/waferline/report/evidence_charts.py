"""Charts of predictions against published values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from waferline.evidence.outcome import Outcome
from waferline.evidence.report import Report
from waferline.evidence.summary import Figures
from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.report.charts.scatter import Group, scatter
from waferline.text import cut

TIERS = ("calibrated", "transferred", "spec only")
_MOST_BARS, _MOST_STEPS = 25, 400

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


def agreement(title: str, outcomes: Sequence[Outcome], unit: str) -> Chart:
    """Predicted over published value, both logarithmic, one colour a tier, with the line of agreement."""
    groups = []
    for tier in TIERS:
        mine = [o for o in outcomes if o.tier == tier]
        if mine:
            values = ([_short(o.row.value) for o in mine], [_short(o.predicted) for o in mine])
            groups.append(
                Group(name=f"{tier} ({len(mine):,})", x=values[0], y=values[1], text=[_told(o, unit) for o in mine])
            )
    x, y = (
        Axis(title=f"{side}, {unit}", unit="s" if unit == "s" else "", log=True) for side in ("published", "predicted")
    )
    return scatter(title, x, y, groups, diagonal=True)


def _told(o: Outcome, unit: str) -> str:
    r = o.row
    sizes = (("batch", r.batch), ("in", r.input_tokens), ("out", r.output_tokens))
    size = " · ".join(f"{name} {value:g}" for name, value in sizes if value is not None)
    devices = f" × {r.devices:g}" if (r.devices or 1) > 1 else ""
    engine = f"{r.engine} {r.engine_version}".strip()
    both = f"published {r.value:.4g} {unit}, predicted {o.predicted or 0.0:.4g}"
    return f"{r.model} on {r.hardware}{devices}\n{r.weight_format} · {engine}\n{size}\n{r.id}\n{both}"


def _short(value: float | None) -> float:
    """Four digits are more than a pixel shows, and keep the page small."""
    return float(f"{value:.4g}")


def error_bars(title: str, groups: Sequence[Figures]) -> Chart:
    """Median error of the largest scored groups, with the 90th percentile."""
    shown = sorted((g for g in groups if g.scored), key=lambda g: -g.scored)[:_MOST_BARS][::-1]
    furthest = min(max(2.2 * max((g.median_error for g in shown), default=1.0), 0.5), 2.0)
    names = _names(shown)
    within = [(g, name) for g, name in zip(shown, names, strict=True) if g.p90_error <= furthest]
    median = Series(name="median error", kind="bars", x=[g.median_error for g in shown], y=names)
    p90 = Series(
        name="90th percentile", kind="ticks", x=[g.p90_error for g, _ in within], y=[n for _, n in within], colour=1
    )
    return _bars(title, (median, p90), names, Axis(title="error", share=True, low=0.0, high=furthest))


def coverage(title: str, groups: Sequence[Figures], target: float = 0.9) -> Chart:
    """Share of rows inside the 90 % interval, for every group, against what it should be."""
    shown = [g for g in groups if g.scored][::-1]
    names = _names(shown)
    inside = Series(name="inside", kind="bars", x=[g.coverage for g in shown], y=names, colour=2)
    aim = Series(name="as it should be", kind="ticks", x=[target] * len(names), y=names, colour="ink")
    return _bars(title, (inside, aim), names, Axis(title="inside their 90 % interval", share=True, low=0.0, high=1.0))


def _names(groups: Sequence[Figures]) -> list[str]:
    return [f"{cut(g.name, 44)}  ({g.scored:,})" for g in groups]


def _bars(title: str, series: tuple[Series, ...], names: list[str], axis: Axis) -> Chart:
    panel = Panel(series=series, x=axis, y=Axis(names=tuple(names)))
    return Chart(title=title, panels=(panel,), height=140 + 24 * len(names))


def distribution(title: str, report: Report) -> Chart:
    """Share of scored rows within an error, by tier."""
    lines = []
    for n, tier in enumerate(TIERS):
        errors = np.sort([o.error for o in report.outcomes if o.scored and o.tier == tier])
        if errors.size:
            share = np.arange(1, errors.size + 1) / errors.size
            pick = np.unique(np.linspace(0, errors.size - 1, min(errors.size, _MOST_STEPS)).astype(int))
            x, y = ([_short(v) for v in values[pick]] for values in (np.maximum(errors, 1e-3), share))
            lines.append(Series(name=f"{tier} ({errors.size:,})", kind="line", x=x, y=y, colour=n))
    x_axis = Axis(title="error", share=True, log=True, low=0.01, high=5.0)
    panel = Panel(series=tuple(lines), x=x_axis, y=Axis(title="share of rows within it", share=True, low=0.0, high=1.0))
    return Chart(title=title, panels=(panel,), height=420)
