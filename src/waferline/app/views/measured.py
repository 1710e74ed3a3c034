"""This machine as it was measured, and a model that runs on it."""

from __future__ import annotations

from collections.abc import Mapping

from waferline.app.page import Page
from waferline.app.question import Control
from waferline.measure.machine_file import read_machine, this_machine_path
from waferline.report.table import Column, Table
from waferline.workloads.spec import ModelSpec

CONTROLS: tuple[Control, ...] = ()


def answer(values: Mapping[str, str], _: ModelSpec | None) -> Page:
    """Roofs of the machine file that `waferline measure machine` saved."""
    path = this_machine_path()
    if not path.exists():
        return Page(
            sentence="Nothing was measured on this machine yet: waferline measure machine does it, in a few minutes.",
            cli="waferline measure machine",
        )
    device, record = read_machine(path)
    levels = [(level.name, level.capacity_bytes, level.bandwidth_bytes_per_s) for level in device.memory]
    peaks = [(fmt, peak) for fmt, peak in device.peak_flops.items()]
    return Page(
        sentence=f"{device.title}, measured: {device.memory[-1].bandwidth_bytes_per_s / 1e9:,.1f} GB/s from memory.",
        blocks=(
            Table("Memory", ("level", Column("capacity", unit="B"), Column("bandwidth", unit="B/s")), levels),
            Table("Arithmetic", ("format", Column("peak", unit="FLOP/s")), peaks),
        ),
        cli="waferline measure machine",
        data=dict(record),
    )
