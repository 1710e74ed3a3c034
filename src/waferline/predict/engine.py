"""Serving engines as facts: host time around the operators, kernel family, and the memory they keep."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import unknown
from waferline.machines.device import Device


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs the model: see `catalog/engines.yaml` for the meaning and source of each figure."""

    name: str
    title: str
    kernels: str
    step_s: float
    layer_s: float
    reserved_bytes: float
    memory_share: float
    sources: tuple[str, ...] = ()


@cache
def _table() -> tuple[dict[str, Engine], dict[str, str]]:
    raw = read_packaged("engines.yaml")
    engines, names = {}, {}
    for name, row in raw["engines"].items():
        row = dict(row)
        for key in (name, row["title"], *row.pop("aliases", ())):
            names[key.lower()] = name
        row["sources"] = tuple(raw["sources"][s]["url"] for s in row["sources"])
        engines[name] = Engine(name=name, **row)
    return engines, names


def engine_names() -> list[str]:
    return sorted(_table()[0])


def get_engine(name: str) -> Engine:
    """The engine called `name`, in any case.

    Raises: UnknownNameError with the nearest valid names.
    """
    engines, names = _table()
    if name.lower() not in names:
        raise unknown("engine", name, engines)
    return engines[names[name.lower()]]


def default_engine(device: Device) -> Engine:
    """The engine usually run on a machine of this kind."""
    return get_engine(read_packaged("engines.yaml")["default"][device.kind])
