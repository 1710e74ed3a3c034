"""Rows whose metric and unit are as a paper prints them, in the evidence's own metrics and SI units."""

from __future__ import annotations

import re
from dataclasses import replace

from waferline.evidence.names import names
from waferline.evidence.rows import Row

_BEAMS = re.compile(r"beamsearch=(\d+)")
_FACTORS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def in_si(row: Row) -> Row:
    """`row` with the phase, metric and value of `published_metrics`; as it is where it has no unit or none of them fits."""
    if not row.unit:
        return _of_all_beams(row)
    for rule in names()["published_metrics"]:
        if row.metric == rule["metric"] and row.unit.startswith(rule["unit"]) and rule.get("of", "") in row.operation:
            factor = _FACTORS.get(rule["unit"], 1.0) * (_devices(row) if rule.get("per_device") else 1.0)
            return replace(
                row,
                phase=rule["phase"],
                metric=rule["as"],
                value=row.value * factor,
                unit="",
                devices=_devices(row),
                batch=row.batch or (None if rule["phase"] == "serve" else 1.0),
            )
    return row


def _of_all_beams(row: Row) -> Row:
    """A search by beams decodes that many sequences for each that it answers: the row in sequences and tokens of all of them."""
    found = _BEAMS.search(row.notes)
    if found is None or row.batch is None or row.metric != "output_tokens_per_s":
        return row
    beams = float(found.group(1))
    return replace(
        row,
        batch=row.batch * beams,
        value=row.value * beams,
        notes=_BEAMS.sub(f"{beams:g} beams, all counted", row.notes),
    )


def _devices(row: Row) -> float:
    return row.devices or 1.0
