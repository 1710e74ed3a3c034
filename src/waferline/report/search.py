"""Solved goals and elasticities as text and tables."""

from __future__ import annotations

from collections.abc import Iterator

from waferline.report.table import Block, Column, Table
from waferline.search.sensitivity import Sensitivity
from waferline.search.solve import Solution
from waferline.text import metric, number
from waferline.units import unit_of

_SYMBOLS = {"second": "s", "byte": "B", "joule": "J", "watt": "W"}


def _shown(field: str, value: float) -> str:
    unit = _SYMBOLS.get(unit_of(field), "")
    return f"{field} {metric(value, unit) if unit else number(value)}"


def solution_report(found: Solution) -> Iterator[Block]:
    """The value with what is reached there, or the nearest."""
    at = ", ".join(_shown(name, value) for name, value in found.at.items())
    if found.value is not None:
        yield f"{found.field} {number(found.value)} is the {found.edge} that holds: {at}"
    else:
        near = "" if found.nearest is None else f"; nearest at {found.field} {number(found.nearest)}: {at}"
        yield f"no {found.field} holds{near}"


def sensitivity_report(found: Sensitivity) -> Iterator[Block]:
    """A line for every field: its value, and by how many per cent it moves for a per cent of each part."""
    parts = list(dict.fromkeys(p for row in found.elasticities.values() for p in row))
    columns = (Column("field"), Column("now", left=False), *(Column(p, "+.2f") for p in parts), Column("invest in"))
    rows = [
        (name, _shown(name, found.values[name]).removeprefix(f"{name} "), *(row.get(p) for p in parts),
         found.invest[name])
        for name, row in found.elasticities.items()
    ]  # fmt: skip
    note = "per cent that a field moves when the part is one per cent faster (or larger)"
    yield Table(f"{found.model} on {found.machine}", columns, rows, (note,))
