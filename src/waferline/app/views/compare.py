"""One model on several machines and in several formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlencode

import numpy as np

from waferline.app.page import Page
from waferline.app.question import BATCH, MODEL, OUTPUT, PROMPT, SCENARIO, Control, command, scenario_of, spelled
from waferline.errors import InvalidInputError
from waferline.machines.hardware import resolve_hardware
from waferline.predict.compare import Row, compare
from waferline.report.charts import Chart
from waferline.report.charts.chart import Axis
from waferline.report.charts.comparison import comparison_chart, label
from waferline.report.charts.scatter import Group, scatter
from waferline.report.compare import comparison_report
from waferline.search.frontier import pareto
from waferline.text import dollars
from waferline.workloads.spec import ModelSpec

MOST = 24  # machines × formats
CONTROLS = (
    MODEL,
    Control("on", "Machines", "text", "h100,h200,mi300x,m2-ultra", option="--on", hint="separated by commas"),
    Control("formats", "Formats", "text", "bf16,int4", hint="separated by commas; empty: as published"),
    BATCH,
    PROMPT,
    OUTPUT,
)


def answer(values: Mapping[str, str], model: ModelSpec | None) -> Page:
    """What `waferline compare` says, for each format, and the front of speed for a user against cost."""
    machines = [resolve_hardware(name.strip()) for name in values["on"].split(",") if name.strip()]
    formats = [name.strip() for name in values["formats"].split(",") if name.strip()] or [""]
    if not 0 < len(machines) * len(formats) <= MOST:
        raise InvalidInputError(f"machines × formats are 1 to {MOST}, not {len(machines) * len(formats)}")
    asked = scenario_of({k: v for k, v in values.items() if k not in ("on", "formats")}, model)
    rows = [
        replace(row, hardware=f"{row.hardware} · {fmt}" if fmt else row.hardware)
        for fmt in formats
        for row in compare(replace(asked, precision=fmt or None), machines)
    ]
    if all(row.answer is None for row in rows):
        raise InvalidInputError(str(rows[0].refused))
    cli = [command("compare", {**values, "precision": fmt}, (*CONTROLS, _PRECISION)) for fmt in formats]
    return Page(
        sentence=_best(rows),
        charts=(comparison_chart(rows), *_front(rows, {} if model else values)),
        blocks=tuple(comparison_report(rows)),
        cli="\n".join(cli),
        python=_python(values, formats),
        data=rows,
    )


def _python(values: Mapping[str, str], formats: Sequence[str]) -> str:
    asked = spelled("wl.Scenario", {**values, "on": ""}, SCENARIO)[:-1]
    machines = [name.strip() for name in values["on"].split(",") if name.strip()]
    return (
        f"import waferline as wl\n\nrows = []\nfor precision in {[fmt or None for fmt in formats]}:\n"
        f"    rows += wl.compare({asked}, machine=None, precision=precision), {machines})"
    )


_PRECISION = Control("precision", "Precision", option="--precision")


def _one(row: Row, key: str) -> float:
    found = row.answer is not None and row.answer.fits and key in row.answer.result
    return float(np.asarray(row.answer.result[key]).flat[0]) if found and row.answer else float("nan")


def _best(rows: Sequence[Row]) -> str:
    speeds = [(row, _one(row, "user_tokens_per_s")) for row in rows]
    known = [(row, v) for row, v in speeds if np.isfinite(v)]
    if not known:
        return "It fits none of them."
    row, speed = max(known, key=lambda pair: pair[1])
    costs = [(r, c) for r in rows if np.isfinite(c := _one(r, "cost_usd_per_mtoken"))]
    cheap, cost = min(costs, key=lambda pair: pair[1]) if costs else (row, float("nan"))
    who = "It also" if cheap is row else cheap.hardware
    cheapest = f" {who} costs least, {dollars(cost)} per million tokens." if costs else ""
    return f"Fastest for each user is {row.hardware} with {speed:,.0f} tokens/s.{cheapest}"


def _front(rows: Sequence[Row], values: Mapping[str, str]) -> tuple[Chart, ...]:
    points = [(r, _one(r, "cost_usd_per_mtoken"), _one(r, "user_tokens_per_s")) for r in rows]
    points = [p for p in points if np.isfinite(p[1]) and np.isfinite(p[2])]
    if len(points) < 2:
        return ()
    columns = {"cost": np.array([p[1] for p in points]), "speed": np.array([p[2] for p in points])}
    best = set(pareto(columns, least=("cost",), most=("speed",)).tolist())
    groups = [
        Group(
            name=name,
            x=[cost for _, cost, _ in some],
            y=[speed for *_, speed in some],
            text=[
                f"{label(r.hardware, r.answer)}\n{dollars(c)} per million tokens\n{s:,.0f} tokens/s for each user"
                for r, c, s in some
                if r.answer
            ],
            joined=joined,
            links=[_explore(r, values) for r, *_ in some] if values else (),
        )
        for name, joined, some in (
            ("nothing beats it in both", True, sorted((points[i] for i in best), key=lambda p: p[1])),
            ("something does", False, [p for i, p in enumerate(points) if i not in best]),
        )
        if some
    ]
    title, note = "Speed for each user against cost", "A click on a point leads to its configuration and command line."
    across, up = Axis(title="$ per million tokens"), Axis(title="tokens/s for each user")
    return (scatter(title, across, up, groups, note=note if values else ""),)


def _explore(row: Row, values: Mapping[str, str]) -> str:
    """Where one configuration is explored."""
    machine, _, fmt = row.hardware.partition(" · ")
    shared = {name: values[name] for name in ("model", "batch", "prompt", "output")}
    return "/explore?" + urlencode(
        {**shared, "on": machine, "precision": fmt, "devices": f"{_one(row, 'devices'):.0f}"}
    )
