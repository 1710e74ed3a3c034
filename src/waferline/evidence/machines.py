"""Machines of published rows: the catalogue's, those that only published tables name, and a CPU of which some threads work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from waferline.catalog.names import compact
from waferline.catalog.yaml_file import read_file
from waferline.machines.device import Citation, Device, Link, MemoryLevel
from waferline.machines.hardware import load_hardware
from waferline.machines.threads import with_threads

_FILE = Path(__file__).parent / "data" / "machines.yaml"
_SOCKET_BYTES_PER_S, _SOCKET_S, _HOP_S = (
    38.4e9,
    0.2e-6,
    1e-6,
)  # two links of 9.6 GT/s; a remote access; a chip's next one


@cache
def _facts() -> Mapping[str, Any]:
    return read_file(_FILE)


@cache
def _published() -> Mapping[str, str]:
    """Compact name → machine of `data/machines.yaml`."""
    facts = _facts()
    named = {name: (name, *row.get("aliases", ())) for name, row in facts["cpus"].items()}
    named |= {name: (name,) for name in facts["like"]}
    return {compact(each): name for name, spoken in named.items() for each in spoken}


def _cited(*covers: str) -> tuple[Citation, ...]:
    facts = _facts()
    return (Citation(facts["source"], "", str(facts["date"]), covers, checked=False),)


def _cpu(name: str, row: Mapping[str, Any]) -> Device:
    isa = _facts()["isa"][row["isa"]]
    clocks = row["units"] * row["clock_hz"]
    memory = (
        MemoryLevel("last cache", row["cache"], isa["cache_bytes"] * clocks / 2.0),
        MemoryLevel("memory", row["memory"], row["bandwidth"]),
    )
    sockets = row.get("sockets", 1)
    socket = Link("socket link", "scale-up", _SOCKET_BYTES_PER_S, _SOCKET_S, sockets, "mesh")
    return Device(
        name=name,
        title=name,
        vendor=row["vendor"],
        kind="cpu",
        architecture=row["architecture"],
        year=row["year"],
        peak_flops={fmt: each * clocks for fmt, each in isa["operations"].items()},
        memory=memory,
        links=(socket,) if sockets > 1 else (),
        units=row["units"],
        clock_hz=row["clock_hz"],
        group="Edge",
        citations=_cited("units", "memory", "peak_flops", "links"),
    )


def _like(name: str, row: Mapping[str, Any]) -> Device:
    base = load_hardware(row["like"])
    last = base.main_memory
    last = replace(
        last,
        bandwidth_bytes_per_s=row.get("bandwidth", last.bandwidth_bytes_per_s),
        capacity_bytes=row.get("memory", last.capacity_bytes),
    )
    link = row.get("link")
    joined = (Link("chip link", "scale-up", link, _HOP_S, 32, "mesh"),) if link else base.links
    return base.with_(
        name=name,
        title=name,
        units=row.get("units", base.units),
        clock_hz=row.get("clock_hz", base.clock_hz),
        peak_flops=row.get("peak", base.peak_flops),
        memory=(*base.memory[:-1], last),
        links=joined,
        aliases=(),
        memory_sizes={},
        citations=(*base.citations, *_cited("units", "peak_flops", "memory", "links")),
    )


@cache
def machine(slug: str, threads: int = 0, sockets: int = 1) -> Device:
    """The machine of a published row, with `threads` of its cores at work (0: all) on so many sockets that act as one.

    Raises: UnknownNameError for a machine that neither the catalogue nor `data/machines.yaml` has.
    """
    name = _published().get(compact(slug))
    if name is None:
        device = load_hardware(slug)
    else:
        facts = _facts()
        device = _cpu(name, facts["cpus"][name]) if name in facts["cpus"] else _like(name, facts["like"][name])
    if sockets > 1:
        device = _joined(device, sockets)
    return with_threads(device, threads) if threads and device.kind == "cpu" else device


def _joined(device: Device, sockets: int) -> Device:
    """Sockets as one CPU: what an engine that knows no NUMA takes them for."""
    return device.with_(
        units=device.units * sockets,
        peak_flops={fmt: peak * sockets for fmt, peak in device.peak_flops.items()},
        memory=tuple(
            replace(
                level,
                capacity_bytes=level.capacity_bytes * sockets,
                bandwidth_bytes_per_s=level.bandwidth_bytes_per_s * sockets,
            )
            for level in device.memory
        ),
        links=(),
    )
