"""A fleet over time, and a queue in front of it, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from waferline.predict.result import Result
from waferline.report.table import Block, Column, Table
from waferline.text import dollars, number, percent

# Title, and its rows: label, field, how a value is written.
_FLEET = (
    (
        "Interruptions",
        (
            ("mean time between", "fleet_mtbf_s", lambda s: f"{number(s / 3600)} h"),
            ("expected", "expected_failures", number),
            ("save every", "checkpoint_interval_s", lambda s: f"{number(s / 60)} min"),
            ("goodput", "goodput_ratio", percent),
            ("a save holds", "checkpoint_bytes", "B"),
        ),
    ),
    (
        "Energy",
        (
            ("devices, kWh", "it_energy_kwh", number),
            ("facility, kWh", "facility_energy_kwh", number),
            ("PUE", "pue", number),
            ("CO2 equivalent, kg", "carbon_kg", number),
            ("water, litres", "water_litres", number),
        ),
    ),
    (
        "Cost",
        (
            ("purchase worn off", "capex_usd", dollars),
            ("electricity", "energy_usd", dollars),
            ("maintenance", "maintenance_usd", dollars),
            ("total", "tco_usd", dollars),
        ),
    ),
)
_QUEUE = (
    ("busy", "queue_utilization", percent),
    ("requests that wait", "wait_probability", percent),
    ("wait, mean", "mean_wait_s", "s"),
    ("latency, mean", "mean_latency_s", "s"),
    ("latency, p50", "p50_latency_s", "s"),
    ("latency, p99", "p99_latency_s", "s"),
    ("above the goal", "slo_violation_probability", percent),
)


def fleet_report(title: str, answers: Mapping[str, Result]) -> Iterator[Block]:
    """What `waferline fleet` says: interruptions, energy and, where prices are known, cost."""
    values = {name: value for answer in answers.values() for name, value in answer.values.items()}
    yield title, "title"
    yield ""
    for heading, rows in _FLEET:
        if any(name in values for _, name, _ in rows):
            yield _table(heading, rows, values)
    yield from _sources(answers.values())


def queue_report(answer: Result) -> Iterator[Block]:
    """What `waferline queue` says."""
    yield _table("Requests in a queue", _QUEUE, answer.values)
    if not bool(answer["is_stable"]):
        yield "overloaded: the replicas cannot keep up, and waits grow for as long as requests come", "alarm"
    yield from _sources([answer])


def _table(title: str, rows: Any, values: Mapping[str, Any]) -> Table:
    shown = [
        (label, Column("", unit=how).text(value) if isinstance(how, str) else str(how(value)))
        for label, name, how in rows
        if name in values and not np.isnan(value := float(values[name]))
    ]
    return Table(title, ("", Column("value", left=False)), shown)


def _sources(answers: Any) -> Iterator[Block]:
    titles = dict.fromkeys(source["title"] for answer in answers for source in answer.sources)
    yield "sources: " + "; ".join(titles), "note"
    missing = dict.fromkeys(what for answer in answers for what in answer.not_modelled)
    yield "not modelled: " + "; ".join(missing), "note"
