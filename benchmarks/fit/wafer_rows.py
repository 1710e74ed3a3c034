"""Published wafer times: the rows that the constants of `mesh_fits.yaml` rest on, and the rows they are checked against."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache

from waferline.catalog import ROOT


@dataclass(frozen=True, slots=True)
class Published:
    """One published figure. `role` is `calibration` where a constant was fitted on it, else `check`."""

    id: str
    table: str
    system: str
    devices: int  # 0: not stated
    model: str
    grids: tuple[int, ...]  # one side, or prefill and decode side
    input_tokens: int
    output_tokens: int
    metric: str
    value: float
    unit: str
    role: str
    source: str
    url: str


@cache
def published() -> tuple[Published, ...]:
    """Every row of `catalog/mesh_published.csv`."""
    with (ROOT / "mesh_published.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_row(row) for row in csv.DictReader(file))


def table(name: str, *, system: str | None = None, metric: str | None = None) -> list[Published]:
    """Rows of one table, such as `Table 4`, of one system and one metric."""
    return [
        row
        for row in published()
        if row.table == name and system in (None, row.system) and (metric is None or metric in row.metric)
    ]


def _row(row: dict[str, str]) -> Published:
    return Published(
        id=row["id"],
        table=row["table"],
        system=row["system"],
        devices=int(row["devices"] or 0),
        model=row["model"],
        grids=tuple(int(side) for side in row["grid"].split("/") if side),
        input_tokens=int(row["input_tokens"] or 0),
        output_tokens=int(row["output_tokens"] or 0),
        metric=row["metric"],
        value=float(row["value"]),
        unit=row["unit"],
        role=row["role"],
        source=row["source"],
        url=row["url"],
    )


A100_W = (
    400.0  # TDP of the A100 SXM (NVIDIA data sheet); WaferLLM (OSDI'25) tables 6-8 follow with the wafer at 37.5 of it
)


def energy_ratio(devices: int, device_s: float, wafer_s: float, wafer_w: float) -> float:
    """Energy of `devices` A100s busy for `device_s` over that of one wafer busy for `wafer_s` (above 1: the wafer wins)."""
    return devices * A100_W * device_s / (wafer_w * wafer_s)
