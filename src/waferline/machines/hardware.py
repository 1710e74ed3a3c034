"""Machines by name: `load_hardware("h100")`, `Hardware.Cloud.H100`, or a hardware file of your own.

The packaged machines are YAML files, one each, in `catalog/hardware/`: a file that is put there is a machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from waferline.catalog import ROOT
from waferline.catalog.names import compact
from waferline.catalog.yaml_file import packaged_names, read_packaged
from waferline.errors import InvalidInputError, UnknownNameError, unknown
from waferline.machines.device import Citation, Device, Link, MemoryLevel

FOLDER = ROOT / "hardware"
FILE_ENDINGS = (".yaml", ".yml", ".json")
_AMBIGUOUS = "ambiguous"  # the file of names that several machines answer to
_LONGEST_WORD = 3  # letters of what may be a plain word and not a name
_MOST_SPOKEN = 24  # letters of an alias that is worth naming as the nearest


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
        peak_flops={fmt: float(peak) for fmt, peak in record["peak_flops"].items()},
        memory=tuple(MemoryLevel(**_floats(level)) for level in record["memory"]),
        links=tuple(_link(link) for link in record.get("links", ())),
        units=record["units"],
        clock_hz=float(record["clock_hz"]),
        **_floats({key: power.get(key) for key in ("tdp_w", "idle_w")}),
        price_usd=_floats(price).get("purchase_usd"),
        hourly_usd=_floats(price).get("hourly_usd"),
        group=record["group"],
        attribute=record.get("attribute", ""),
        aliases=tuple(record.get("aliases", ())),
        citations=tuple(
            Citation(c["title"], c["url"], str(c["date"]), tuple(c["covers"]), c.get("checked", True))
            for c in record["citations"]
        ),
        notes=record.get("notes", ""),
        mesh=record.get("mesh"),
        extra=_floats(record.get("extra", {})),
        memory_sizes={int(gib): float(given) for gib, given in record.get("memory_sizes", {}).items()},
        efficiency=dict(record.get("efficiency", {})),
        engines=dict(record.get("engines", {})),
    )


def _link(row: Mapping[str, Any]) -> Link:
    return Link(**{**_floats(row), "max_devices": row.get("max_devices") or 1})


def _floats(row: Mapping[str, Any]) -> dict[str, Any]:
    """A section with its figures as floats: YAML reads `300000000000` as a whole number. Numbers of devices stay whole."""
    return {k: float(v) if type(v) is int and k != "max_devices" else v for k, v in row.items()}


@cache
def _records() -> dict[str, dict[str, Any]]:
    """Name → record of every packaged machine."""
    return {name: read_packaged(f"hardware/{name}.yaml") for name in packaged_names("hardware") if name != _AMBIGUOUS}


@cache
def _assumed() -> dict[str, dict[str, Any]]:
    """Compact ambiguous name, with and without its vendor → `variant`, and `by_source`: source → variant."""
    keys = _keys()
    found: dict[str, dict[str, Any]] = {}
    for slug, entry in read_packaged(f"hardware/{_AMBIGUOUS}.yaml")["assumed"].items():
        by_source = {source: choice["variant"] for source, choice in entry.get("by_source", {}).items()}
        bare = compact(slug).removeprefix(compact(_records()[entry["variant"]]["vendor"]))
        found |= {key: {"variant": entry["variant"], "by_source": by_source} for key in (compact(slug), bare)}
    return {key: choice for key, choice in found.items() if key not in keys}


def spoken_names(record: Mapping[str, Any]) -> Iterator[str]:
    """What a machine answers to, compact: its name, title, aliases and attribute, each also without the vendor."""
    vendor = compact(record["vendor"])
    for given in (record["name"], record["title"], *record.get("aliases", ()), record.get("attribute")):
        if given:
            spoken = compact(given)
            yield spoken
            bare = spoken.removeprefix(vendor)
            if len(bare) > _LONGEST_WORD or not bare.isalpha():  # AmpereOne is not "one"
                yield bare or spoken


@cache
def _keys() -> dict[str, str]:
    """Compact name → machine."""
    return {spoken: name for name, record in _records().items() for spoken in spoken_names(record)}


@cache
def _with_vendor() -> dict[str, str]:
    """Compact vendor and alias → machine: `apple-m1-max` where the alias is `m1-max`."""
    return {
        compact(record["vendor"] + alias): name
        for name, record in _records().items()
        for alias in (*record.get("aliases", ()), record.get("attribute"))
        if alias
    }


@cache
def _attributes() -> dict[str, dict[str, str]]:
    """Group → attribute → machine."""
    found: dict[str, dict[str, str]] = {}
    for name, record in _records().items():
        if record.get("attribute"):
            found.setdefault(record["group"], {})[record["attribute"]] = name
    return found


def hardware_names() -> list[str]:
    """The names of all packaged machines, sorted."""
    return list(_records())


def resolve_hardware(name: str, source: str = "") -> str:
    """The catalogue name for a forgiving one (case, spaces, `_`, `-`; vendor optional; aliases).

    `source` is the publication an ambiguous name was read in: its own figures may show which variant it means.
    Raises: UnknownNameError naming the nearest machines.
    """
    found = _keys().get(compact(name)) or assumed_variant(name, source) or _with_vendor().get(compact(name))
    if found is None:
        raise unknown_hardware(name)
    return found


def unknown_hardware(name: str) -> UnknownNameError:
    """The error for a name that is no machine, with the nearest catalogue names and aliases."""
    names = {known: known for known in _records()}
    spoken = {
        a: known for known, record in _records().items() for a in record.get("aliases", ()) if len(a) <= _MOST_SPOKEN
    }
    return unknown("hardware", name, {*names, *spoken}, meant=spoken | names)


def assumed_variant(name: str, source: str = "") -> str | None:
    """The variant taken for a name that does not say which (`nvidia-a100`); None when `name` is exact or unknown."""
    entry = _assumed().get(compact(name))
    if entry is None:
        return None
    by_source = (variant for title, variant in entry["by_source"].items() if source.startswith(title))
    return next(by_source, entry["variant"])


@cache
def _packaged(name: str) -> Device:
    try:
        return device_from_record(_records()[name])
    except (LookupError, TypeError, ValueError):  # not what the schema asks for: let it say what
        from waferline.machines.hardware_file import read_hardware_file

        return device_from_record(read_hardware_file(FOLDER / f"{name}.yaml"))


def load_hardware(name_or_path: str | os.PathLike[str] | Device) -> Device:
    """A machine of the catalogue by a forgiving name, or one described by a YAML/JSON file.

    A file that cites no source counts as its own source. A `Device` is returned as it is.

    Raises: UnknownNameError for a name, FileFormatError for a file, InvalidInputError for what is neither.
    """
    if isinstance(name_or_path, Device):
        return name_or_path
    if not isinstance(name_or_path, str | os.PathLike):
        raise InvalidInputError(f"hardware is a name, a path or a loaded device, not {type(name_or_path).__name__}")
    text = os.fspath(name_or_path)
    if not isinstance(name_or_path, str) or text.lower().endswith(FILE_ENDINGS) or "/" in text or "\\" in text:
        from waferline.machines.hardware_file import read_hardware_file  # pydantic only for users' files

        return device_from_record(read_hardware_file(Path(text)))
    return _packaged(resolve_hardware(text))


def _spoken(attribute: str) -> str | None:
    """The machine that an attribute names as people say it (`Cerebras_CS3`), if there is one."""
    try:
        return resolve_hardware(attribute)
    except UnknownNameError:
        return None


class _Group:
    """The machines of one group as attributes: `Hardware.Cloud.H100`."""

    def __init__(self, group: str) -> None:
        self._group = group

    def _names(self) -> dict[str, str]:
        return _attributes()[self._group]

    def __getattr__(self, attribute: str) -> Device:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        found = self._names().get(attribute) or _spoken(attribute)
        if found is None or _records()[found]["group"] != self._group:
            error = unknown(f"machine in Hardware.{self._group}", attribute, self._names())
            raise AttributeError(str(error))
        return _packaged(found)

    def __dir__(self) -> list[str]:
        return sorted(self._names())

    def __repr__(self) -> str:
        return f"<Hardware.{self._group}: {len(self._names())} machines>"


class _Hardware:
    """All packaged machines by group: `Cloud`, `Workstation`, `Edge`, `Tiny`; a machine's own name skips the group."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        groups = _attributes()
        if name in groups:
            return _Group(name)
        found = _spoken(name)
        if found is None:
            raise AttributeError(str(unknown("hardware group or machine", name, groups)))
        return _packaged(found)

    def __dir__(self) -> list[str]:
        return sorted(_attributes())

    def __call__(self, name_or_path: str | os.PathLike[str] | Device) -> Device:
        return load_hardware(name_or_path)

    def __repr__(self) -> str:
        return f"<Hardware: {', '.join(dir(self))}>"


Hardware = _Hardware()
