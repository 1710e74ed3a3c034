"""Answers for several machines side by side: one small panel a quantity, one bar a machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from waferline.errors import UnsupportedError
from waferline.predict.compare import Row
from waferline.predict.run import Answer
from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.text import MISSING, dollars, metric

# (field, title, unit): what is drawn of answers that have it
_SHOWN = (
    ("ttft_s", "TTFT", "s"),
    ("itl_s", "TPOT", "s"),
    ("latency_s", "latency", "s"),
    ("step_time_s", "step time", "s"),
    ("throughput_tokens_per_s", "tokens/s in total", ""),
    ("samples_per_s", "samples/s", ""),
    ("energy_j_per_token", "energy per token", "J"),
    ("cost_usd_per_mtoken", "$ per million tokens", ""),
)

_WIDE = 30.0  # times from the least to the most, beyond which short bars cannot be told apart


def comparison_chart(rows: Sequence[Row]) -> Chart:
    """Time, rate, energy and cost of every machine that answered, with 90 % intervals and the speed of light where known.

    Raises: UnsupportedError when no machine answered.
    """
    answered = [(row.hardware, row.answer) for row in rows if row.answer is not None]
    if not answered:
        raise UnsupportedError("no machine answered", where="chart")
    shown = [s for s in _SHOWN if any(_value(a, s[0]) is not None for _, a in answered)]
    names = tuple(label(name, answer) for name, answer in answered)[::-1]
    panels = tuple(_panel(list(zip(names, [a for _, a in answered][::-1], strict=True)), *about) for about in shown)
    lines = -(-len(panels) // 2)
    refused = [row.hardware for row in rows if row.answer is None]
    note = "Where there is no bar it is not known." + (f" No answer: {', '.join(refused)}." if refused else "")
    title = f"{answered[0][1].model.title} by machine"
    return Chart(
        title=title, panels=panels, columns=2, height=110 + lines * (90 + 26 * len(names)), width=1200, note=note
    )


def label(name: str, answer: Answer) -> str:
    """A machine as an axis names it: how many, and whether the answer only supposes that it fits."""
    devices = _value(answer, "devices") or 1.0
    return name + (f" × {devices:.0f}" if devices > 1 else "") + ("" if answer.fits else " (does not fit)")


def _value(answer: Answer, key: str) -> float | None:
    found = float(np.asarray(answer.result[key]).flat[0]) if key in answer.result else float("nan")
    return found if np.isfinite(found) else None


def _panel(rows: list[tuple[str, Answer]], key: str, title: str, unit: str) -> Panel:
    known = [(name, answer, value) for name, answer in rows if (value := _value(answer, key)) is not None]
    names, values = [name for name, *_ in known], [value for *_, value in known]
    stem = key.removesuffix("_s")
    ends = [
        (
            low if (low := _value(a, f"{stem}_low90_s")) is not None else v,
            high if (high := _value(a, f"{stem}_high90_s")) is not None else v,
        )
        for _, a, v in known
    ]
    has = any(low != high for low, high in ends)
    wide = min(values) > 0 and max(values) > _WIDE * min(values)  # a bar needs its zero, which no logarithmic axis has
    write = dollars if key.startswith("cost") else lambda v: metric(v, unit)
    text = [
        f"{name}\n{title} {write(value)}\n{answer.result.about.get('precision', MISSING)}"
        for name, answer, value in known
    ]
    bars = Series(
        name="expected", kind="points" if wide else "bars", x=values, y=names, text=text,
        low=[low for low, _ in ends] if has else None, high=[high for _, high in ends] if has else None,
    )  # fmt: skip
    bounds = [(name, light) for name, answer, _ in known if (light := _value(answer, f"light_{key}")) is not None]
    ticks = Series(name="speed of light", kind="ticks", x=[b for _, b in bounds], y=[n for n, _ in bounds], colour=1)
    return Panel(
        series=(bars, ticks) if bounds else (bars,),
        x=Axis(unit=unit, log=wide),
        y=Axis(names=tuple(name for name, _ in rows)),
        title=title,
    )
