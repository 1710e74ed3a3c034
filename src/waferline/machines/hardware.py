"""Machines by name: `load_hardware("h100")`, `Hardware.Cloud.H100`, or a hardware file of your own.

The packaged machines are YAML files, one each, in `catalog/hardware/`. `python -m waferline.machines.build` checks them
and writes `index.json`, the only file read here, so that a look-up needs neither YAML nor pydantic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from waferline.catalog import ROOT
from waferline.catalog.names import compact
from waferline.errors import UnknownNameError, unknown
from waferline.machines.device import Citation, Device, Link, MemoryLevel

FOLDER = ROOT / "hardware"
INDEX = FOLDER / "index.json"
FILE_ENDINGS = (".yaml", ".yml", ".json")


@cache
def _index() -> dict[str, Any]:
    """`machines`: name → record; `keys`: compact name → name; `assumed`: compact ambiguous name → variants."""
    return json.loads(INDEX.read_text(encoding="utf-8"))


def device_from_record(record: Mapping[str, Any]) -> Device:
    """The `Device` of a checked record (the shape of the YAML file)."""
    power, price = record.get("power") or {}, record.get("price") or {}
    return Device(
        name=record["name"],
        title=record["title"],
        vendor=record["vendor"],
        kind=record["kind"],
        architecture=record["architecture"],
        year=record["year"],
        peak_flops=dict(record["peak_flops"]),
        memory=tuple(MemoryLevel(**level) for level in record["memory"]),
        links=tuple(Link(**link) for link in record.get("links", ())),
        units=record["units"],
        clock_hz=record["clock_hz"],
        tdp_w=power.get("tdp_w"),
        idle_w=power.get("idle_w"),
        price_usd=price.get("purchase_usd"),
        hourly_usd=price.get("hourly_usd"),
        group=record.get("group", "Cloud"),
        attribute=record.get("attribute", ""),
        aliases=tuple(record.get("aliases", ())),
        citations=tuple(Citation(**{**c, "covers": tuple(c["covers"])}) for c in record.get("citations", ())),
        notes=record.get("notes", ""),
        mesh=record.get("mesh"),
        extra=dict(record.get("extra", {})),
        efficiency=dict(record.get("efficiency", {})),
    )


def hardware_names() -> list[str]:
    """The names of all packaged machines, sorted."""
    return list(_index()["machines"])


def resolve_hardware(name: str, source: str = "") -> str:
    """The catalogue name for a forgiving one (case, spaces, `_`, `-`; vendor optional; aliases).

    `source` is the publication an ambiguous name was read in: its own figures may show which variant it means.
    Raises: UnknownNameError naming the nearest machines.
    """
    found = _index()["keys"].get(compact(name)) or assumed_variant(name, source)
    if found is None:
        raise unknown_hardware(name)
    return found


def unknown_hardware(name: str) -> UnknownNameError:
    """The error for a name that is no machine, with the nearest catalogue names and aliases."""
    index = _index()
    return unknown("hardware", name, {*index["machines"], *index["spoken"]})


def assumed_variant(name: str, source: str = "") -> str | None:
    """The variant taken for a name that does not say which (`nvidia-a100`); None when `name` is exact or unknown."""
    entry = _index()["assumed"].get(compact(name))
    if entry is None:
        return None
    by_source = (variant for title, variant in entry["by_source"].items() if source.startswith(title))
    return next(by_source, entry["variant"])


@cache
def _packaged(name: str) -> Device:
    return device_from_record(_index()["machines"][name])


def load_hardware(name_or_path: str | Path | Device) -> Device:
    """A machine of the catalogue by a forgiving name, or one described by a YAML/JSON file.

    A file that cites no source counts as its own source. A `Device` is returned as it is.

    Raises: UnknownNameError for a name, FileFormatError for a file.
    """
    if isinstance(name_or_path, Device):
        return name_or_path
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.lower().endswith(FILE_ENDINGS) or "/" in text or "\\" in text:
        from waferline.machines.hardware_file import read_hardware_file  # YAML and pydantic only for users' files

        return device_from_record(read_hardware_file(Path(text)))
    return _packaged(resolve_hardware(text))


class _Group:
    """The machines of one group as attributes: `Hardware.Cloud.H100`."""

    def __init__(self, group: str) -> None:
        self._group = group

    def _names(self) -> dict[str, str]:
        return _index()["attributes"][self._group]

    def __getattr__(self, attribute: str) -> Device:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        names = self._names()
        if attribute not in names:
            error = unknown(f"machine in Hardware.{self._group}", attribute, names)
            raise AttributeError(str(error))
        return _packaged(names[attribute])

    def __dir__(self) -> list[str]:
        return sorted(self._names())

    def __repr__(self) -> str:
        return f"<Hardware.{self._group}: {len(self._names())} machines>"


class _Hardware:
    """All packaged machines by group: `Cloud`, `Workstation`, `Edge`, `Tiny`."""

    def __getattr__(self, group: str) -> _Group:
        if group.startswith("_"):
            raise AttributeError(group)
        groups = _index()["attributes"]
        if group not in groups:
            raise AttributeError(str(unknown("hardware group", group, groups)))
        return _Group(group)

    def __dir__(self) -> list[str]:
        return sorted(_index()["attributes"])

    def __call__(self, name_or_path: str | Path | Device) -> Device:
        return load_hardware(name_or_path)

    def __repr__(self) -> str:
        return f"<Hardware: {', '.join(dir(self))}>"


Hardware = _Hardware()
