"""A plan as tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from waferline.report.table import Block, Column, Table
from waferline.text import dollars, metric, percent, short
from waferline.traffic.planning.here import Runs
from waferline.traffic.planning.plan import Plan
from waferline.traffic.planning.trial import Trial

_COLUMNS = (
    "", Column("machine"), Column("format"), Column("KV"), Column("tp", "d"), Column("pp", "d"), Column("ep", "d"),
    Column("dp", "d"), Column("replicas", "d"), Column("devices", "d"), Column("$/h", dollars), Column("TTFT p99", unit="s"),
    Column("TPOT p99", unit="s"), Column("holds with", percent), Column("bound by"),
)  # fmt: skip


def plan_report(plan: Plan) -> Iterator[Block]:
    """The plan and its runner-up, what binds and what would change it, and the lines that start it."""
    rows = [_row(name, t) for name, t in (("plan", plan.best), ("runner-up", plan.runner_up)) if t is not None]
    if rows:
        yield Table(f"{plan.model}: {plan.candidates} candidates, {len(plan.tried)} simulated", _COLUMNS, rows)
    if plan.best is None:
        yield f"{plan.model}: none of {plan.candidates} candidates holds the goals", "title"
        yield f"nearest: {plan.nearest}"
    else:
        place = plan.place()
        yield f"memory left on each device: {metric(plan.best.candidate.values['memory_headroom_bytes'], 'B')}"
        if place:
            joules, grams = place["facility_j_per_request"], place["carbon_g_per_request"]
            yield (
                f"energy of a request: {metric(joules, 'J')} of the facility (PUE {place['pue']:g}), "
                f"{grams:.3g} g of CO2 equivalent ({plan.region})"
            )
        if chosen := plan.best.to_json()["options"]:
            yield f"options of the engine: {', '.join(f'{name} {value}' for name, value in chosen.items())}"
    for change in plan.changes:
        yield f"{_WORDS[change.kind]}: {change.text}"
    for name, line in plan.commands.items():
        yield f"{name}: {line}"
    if plan.commands and plan.techniques:
        yield f"to be set up beside: {', '.join(plan.techniques)}"
    for who, why in plan.refused.items():
        yield f"refused {who}: {why}", "note"


_WORDS = {
    "slack": "room", "rate": "room", "price": "the runner-up wins", "flip": "the runner-up wins", "goal": "cheaper with",
}  # fmt: skip


def _row(name: str, t: Trial) -> tuple[object, ...]:
    c = t.candidate
    usd = c.usd_per_h if np.isfinite(c.usd_per_h) else None
    seen = (t.values.get("ttft_p99_s"), t.values.get("tpot_p99_s"))
    degrees = (c.tp, c.pp, c.ep, c.dp, c.replicas, c.devices)
    return (name, c.device.name, c.precision, c.kv or "-", *degrees, usd, *seen, t.probability, t.binding)


def runs_report(runs: Runs) -> Iterator[Block]:
    """What runs on a machine, the largest first."""
    known = {r.tier for r in runs.rows}
    columns = (
        "model", "format", Column("params", metric), Column("memory", unit="B"), Column("tok/s", short), Column("TTFT", unit="s"),
        Column("context", ",d"), *(("known by",) if len(known) > 1 else ()),
    )  # fmt: skip
    rows = [
        (r.model, r.precision, r.params, r.memory_bytes, r.tokens_per_s, r.ttft_s, r.longest, r.tier)[: len(columns)]
        for r in runs.rows
    ]
    notes = [f"each model in its widest format that gives {runs.least:g} tokens/s at a prompt of {runs.prompt} tokens"]
    notes += [f"context: the longest that fits; speeds are known by constants that are {' and '.join(sorted(known))}"]
    yield Table(f"{runs.machine}: {len(rows)} models run well", columns, rows, tuple(notes))
