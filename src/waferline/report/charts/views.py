"""What answers look like: a roofline with every operator, where the time goes, machines side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError
from waferline.predict.compare import Row
from waferline.predict.explain import ENGINE, phase_total_s
from waferline.predict.operator_row import OperatorRow
from waferline.predict.scenario import Answer
from waferline.report.charts.chart import Chart, Panel, Series
from waferline.text import metric, number, percent

_SHOWN = 12  # operators of a phase that have a bar of their own
_SMALL = 0.005  # of its time: less goes together
_RIDGES = ("prefill_ridge_flops_per_byte", "decode_ridge_flops_per_byte", "ridge_flops_per_byte")


def _first(value: Any) -> float:
    return float(np.asarray(value, dtype=np.float64).flat[0])


def _title(answer: Answer) -> str:
    devices = _first(answer.result["devices"]) if "devices" in answer.result else 1.0
    count = f" × {devices:g}" if devices > 1 else ""
    about = answer.result.about
    engine = f", {about['engine']}" if "engine" in about else ""
    return f"{answer.model.title} on {answer.device.title}{count}{engine}"


def _phases(answer: Answer) -> dict[str, list[OperatorRow]]:
    found: dict[str, list[OperatorRow]] = {}
    for row in answer.result.operators:
        found.setdefault(row.phase, []).append(row)
    if not found:
        raise InvalidInputError("there are no operators to draw: ask for one scenario of a machine that runs operators")
    return found


def prediction_chart(answer: Answer) -> Chart:
    """What `predict --plot` draws: the roofline above, where the time goes below."""
    roof, time = roofline_chart(answer), time_chart(answer)
    return Chart(
        roof.title, (*roof.panels, *time.panels), roof.note, 420 + 260 * len(time.panels), (*roof.data, *time.data)
    )


def roofline_chart(answer: Answer) -> Chart:
    """Every operator by its arithmetic intensity and the rate that it reaches, under the roofs of one device."""
    phases, device = _phases(answer), answer.device
    ridge = next((_first(answer.result[name]) for name in _RIDGES if name in answer.result), None)
    data, series, seen = [], [], []
    for colour, (phase, rows) in enumerate(phases.items()):
        points = []
        for row in rows:
            flops, moved, seconds = (_first(x) for x in (row.flops, row.bytes, row.time_s))
            if flops > 0 and moved > 0 and seconds > 0:
                points.append((flops / moved, flops / seconds, row, flops, moved, seconds))
        data += [
            {"phase": phase, "operator": r.name, "flops_per_byte": x, "flops_per_s": y, "flops": f, "bytes": b, "seconds": s,
             "light_s": _first(r.light_s), "bound": str(np.asarray(r.bound).flat[0]), "known": r.tier}
            for x, y, r, f, b, s in points
        ]  # fmt: skip
        hover = [
            f"<b>{r.name}</b> ({phase})<br>{metric(f, 'FLOP')}, {metric(b, 'B')}<br>{metric(s, 's')} of which light "
            f"{metric(_first(r.light_s), 's')}<br>bound by {np.asarray(r.bound).flat[0]}; {r.tier}"
            for _, _, r, f, b, s in points
        ]
        x, y = [p[0] for p in points], [p[1] for p in points]
        series.append(Series(phase, x, y, "dots", hover=hover, colour=colour))
        seen += x
    low, high = min(seen, default=1.0) / 3, max([*seen, ridge or 1.0]) * 3
    if ridge is not None:
        peak = ridge * device.bandwidth_bytes_per_s
        knee = [low, ridge, high]
        series.insert(0, Series("roof", knee, [low * device.bandwidth_bytes_per_s, peak, peak], quiet=True))
    panel = Panel("FLOP per byte", "FLOP/s of one device", series, x_log=True, y_log=True, share=1.4)
    roofs = f"roofs: {metric(device.bandwidth_bytes_per_s, 'B/s')}" + (
        f", {metric(peak, 'FLOP/s')}" if ridge is not None else ""
    )
    return Chart(
        _title(answer), (panel,), f"{roofs}; a point below them is launch-bound, small or badly known", data=data
    )


def time_chart(answer: Answer) -> Chart:
    """Where the time of each phase goes, longest operator first, what the engine adds last."""
    panels, data = [], []
    for colour, (phase, rows) in enumerate(_phases(answer).items()):
        total = phase_total_s(answer.result, phase, rows)
        bars = list(_longest(rows, total))
        data += [{"phase": phase, "operator": name, "seconds": s, "share": s / total} for name, s in bars]
        hover = [f"<b>{name}</b><br>{metric(s, 's')}, {percent(s / total)}" for name, s in bars]
        series = Series(
            phase, [name for name, _ in bars], [1e3 * s for _, s in bars], "bars", hover=hover, colour=colour
        )
        panels.append(Panel(f"{phase}, milliseconds of {metric(total, 's')}", "", (series,)))
    return Chart(_title(answer), panels, height=260 * len(panels), data=data)


def _longest(rows: Sequence[OperatorRow], total: float) -> Iterator[tuple[str, float]]:
    times: dict[str, float] = {}
    for row in rows:
        times[row.name] = times.get(row.name, 0.0) + _first(row.time_s)
    ranked = sorted(times.items(), key=lambda item: -item[1])
    shown = [(name, s) for name, s in ranked[:_SHOWN] if s > _SMALL * total]
    yield from shown
    if rest := sum(s for _, s in ranked[len(shown) :]):
        yield f"{len(ranked) - len(shown)} others", rest
    if (added := total - sum(times.values())) > total * 1e-6:
        yield ENGINE, added


# Fields of an answer that machines are compared by: axis, field, what it is multiplied with; the first that an answer has.
_COMPARED = (
    (("generated tokens/s in total", "throughput_tokens_per_s", 1.0), ("inputs/s", "samples_per_s", 1.0)),
    (("ms per output token", "itl_s", 1e3), ("ms a pass", "latency_s", 1e3), ("s a step", "step_time_s", 1.0)),
    (("ms to the first token", "ttft_s", 1e3),),
    (("$ per million tokens", "cost_usd_per_mtoken", 1.0),),
)


def comparison_chart(rows: Sequence[Row]) -> Chart:
    """Machines side by side: speed, latency and cost, as far as they are known."""
    answers = [(row.hardware, row.answer) for row in rows if row.answer is not None]
    if not answers:
        raise InvalidInputError("no machine answered: there is nothing to draw")
    panels: list[Panel] = []
    data = [{"machine": name, **dict(_numbers(a))} for name, a in answers]
    for choices in _COMPARED:
        axis, field, factor = next((c for c in choices if any(c[1] in a.result for _, a in answers)), choices[0])
        points = [(name, factor * _first(a.result[field])) for name, a in answers if field in a.result]
        points = [(name, value) for name, value in points if np.isfinite(value)]
        if points:
            hover = [f"<b>{name}</b><br>{number(value)} {axis}" for name, value in points]
            series = Series(
                axis, [n for n, _ in points], [v for _, v in points], "bars", hover=hover, colour=len(panels)
            )
            panels.append(Panel(axis, "", (series,)))
    return Chart(answers[0][1].model.title, panels, height=110 + (60 + 28 * len(answers)) * len(panels), data=data)


def _numbers(answer: Answer) -> Iterator[tuple[str, float]]:
    for choices in _COMPARED:
        for _, field, _ in choices:
            if field in answer.result:
                yield field, _first(answer.result[field])


def points_chart(
    columns: dict[str, Sequence[Any]],
    x: str,
    y: str,
    *,
    best: Sequence[int] = (),
    title: str = "",
    name: str = "points",
) -> Chart:
    """Points by two of their columns; those of `best` stand out and are joined: a front."""
    chosen = set(best)
    rest = [i for i in range(len(columns[x])) if i not in chosen]
    front = sorted(best, key=lambda i: columns[x][i])

    def told(i: int) -> str:
        return "<br>".join(f"{k}: {number(v[i]) if isinstance(v[i], float) else v[i]}" for k, v in columns.items())

    series = [
        Series(
            name,
            [columns[x][i] for i in rest],
            [columns[y][i] for i in rest],
            "dots",
            hover=[told(i) for i in rest],
            colour=6,
        )
    ]
    if front:
        line = [columns[x][i] for i in front], [columns[y][i] for i in front]
        series += [Series("front", *line, quiet=True), Series("front", *line, "dots", hover=[told(i) for i in front])]
    data = [{k: v[i] for k, v in columns.items()} for i in (front or rest)]
    return Chart(title or f"{y} against {x}", (Panel(x, y, series),), data=data)
