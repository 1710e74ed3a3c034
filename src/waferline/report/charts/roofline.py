"""The roofline of an answer: every operator as a point under the roofs of its machine (Williams et al. 2009)."""

from __future__ import annotations

import numpy as np

from waferline.errors import UnsupportedError
from waferline.predict.operator_row import OperatorRow
from waferline.predict.run import Answer
from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.text import metric


def roofline(answer: Answer) -> Chart:
    """Operators by arithmetic intensity (FLOP/byte) and rate reached (FLOP/s), one colour a phase.

    The slope is the bandwidth of all devices, the flat roof the peak of the answer's arithmetic: ridge point × bandwidth.
    Operators without arithmetic (look-ups, copies) have no place on a roofline.

    Raises: UnsupportedError for an answer that names no operators with FLOPs and bytes.
    """
    rows = [row for row in answer.result.operators if min(_one(row.flops), _one(row.bytes), _one(row.time_s)) > 0]
    ridges = sorted({_one(answer.result[key]) for key in answer.result.values if key.endswith("ridge_flops_per_byte")})
    if not rows or not ridges:
        raise UnsupportedError(f"{answer.kind} has no operators to put under a roof", where="chart")
    devices = _one(answer.result["devices"]) if "devices" in answer.result else 1.0
    slope = answer.device.memory[-1].bandwidth_bytes_per_s * devices
    at = [_one(row.flops) / _one(row.bytes) for row in rows]
    low, high = min(*at, ridges[0]) / 3, max(*at, ridges[-1]) * 5
    points = [_points(phase, [r for r in rows if r.phase == phase], n) for n, phase in enumerate(_phases(rows))]
    roofs = [
        Series(name="", kind="line", x=(low, ridge, high), y=(slope * low, slope * ridge, slope * ridge), colour="ink")
        for ridge in ridges
    ]
    above = min(slope * low * 30, slope * ridges[0])  # the slope, where it is as far right as its name is long
    labels = ((high, slope * ridges[-1], f"peak {metric(slope * ridges[-1], 'FLOP/s')}"),
              (low, above, f"{answer.device.memory[-1].name} {metric(slope, 'B/s')}"))  # fmt: skip
    bottom = min(_one(row.flops) / _one(row.time_s) for row in rows)
    panel = Panel(
        series=(*roofs, *points),
        x=Axis(title="arithmetic intensity, FLOP/byte", log=True, low=low, high=high),
        y=Axis(
            title="rate reached", unit="FLOP/s", log=True, low=min(bottom / 2, slope * low), high=slope * ridges[-1] * 3
        ),
        labels=labels,
    )
    note = "Below a roof is time lost to overheads and imperfect kernels. Bytes are all traffic to memory."
    return Chart(title=f"Roofline: {subject(answer)}", panels=(panel,), note=note, height=520)


def subject(answer: Answer) -> str:
    """What an answer is about, as the title of a picture."""
    devices = _one(answer.result["devices"]) if "devices" in answer.result else 1.0
    times = f" × {devices:.0f}" if devices > 1 else ""
    return f"{answer.model.title} on {answer.device.title}{times}"


def _one(value: object) -> float:
    return float(np.asarray(value).flat[0])


def _phases(rows: list[OperatorRow]) -> list[str]:
    return list(dict.fromkeys(row.phase for row in rows))


def _points(phase: str, rows: list[OperatorRow], colour: int) -> Series:
    return Series(
        name=phase,
        kind="points",
        x=[_one(r.flops) / _one(r.bytes) for r in rows],
        y=[_one(r.flops) / _one(r.time_s) for r in rows],
        colour=colour,
        text=[said(row) for row in rows],
        size=10,
    )


def said(row: OperatorRow) -> str:
    """One operator in lines of text: its work, its time beside the bound, what binds it and how well that is known."""
    known = (
        f"{row.phase} · {row.name}",
        f"{metric(_one(row.flops), 'FLOP')}, {metric(_one(row.bytes), 'B')}",
        f"{metric(_one(row.time_s), 's')} expected, {metric(_one(row.light_s), 's')} at the speed of light",
        f"bound by {np.asarray(row.bound).flat[0]}, {row.tier}",
    )
    return "\n".join(known)
