"""A measured machine as a hardware file that predict takes, and where this machine's own is kept."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waferline.errors import RefusedError
from waferline.files import write_text
from waferline.measure.calibrate import Calibration
from waferline.measure.machine import MachineProfile
from waferline.measure.store import cache_folder

if TYPE_CHECKING:
    from waferline.machines.device import Device

THIS = "this"  # what a user calls the machine at hand
_DIGITS = 6
SOURCE = "waferline measure machine"


def machine_record(profile: MachineProfile, calibrations: Iterable[Calibration] = ()) -> dict[str, Any]:
    """The hardware file of a measured machine: all threads together, measured figures only.

    `extra` keeps what a sheet has no place for: bandwidth by threads, fork-join and call cost. `efficiency` holds the
    constants of the kernels here, in the shape of the packaged ones.
    """
    threads = profile.threads
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    cpu = profile.fingerprint.cpu
    record: dict[str, Any] = {
        "name": f"this-{profile.fingerprint.digest}",
        "title": f"{cpu}, {threads} threads, as measured",
        "vendor": _vendor(cpu),
        "kind": "cpu",
        "architecture": profile.fingerprint.isa,
        "year": int(today[:4]),
        "group": "Workstation",
        "units": threads,
        "clock_hz": _figure(profile.clock_hz),
        "peak_flops": {fmt: _figure(profile.peak_flops(fmt, threads)) for fmt in profile.peaks},
        "memory": _memory(profile),
        "extra": _extra(profile),
        "citations": [
            {
                "title": f"{SOURCE} on {cpu}",
                "url": f"fingerprint:{profile.fingerprint.digest}",
                "date": today,
                "covers": ["units", "peak_flops", "memory", "extra"],
            }
        ],
        "notes": "; ".join(["Roofs are best repeats, by waferline's own kernels.", *profile.warnings()]),
    }
    kept = {c.key: _constants(c) for c in calibrations}
    if kept:
        record["efficiency"] = {"date": today, "source": SOURCE, "split": "none: fitted to all cases", "records": kept}
    return record


def _memory(profile: MachineProfile) -> list[dict[str, Any]]:
    """Levels with bandwidths that never rise on the way out: noise between neighbours is smoothed downwards."""
    levels: list[dict[str, Any]] = []
    for level in profile.levels:
        bandwidth = level.bandwidth_bytes_per_s(profile.threads)
        if levels:
            bandwidth = min(bandwidth, levels[-1]["bandwidth_bytes_per_s"])
        levels.append(
            {
                "name": level.name,
                "capacity_bytes": float(level.capacity_bytes),
                "bandwidth_bytes_per_s": _figure(bandwidth),
            }
        )
    return levels


def _extra(profile: MachineProfile) -> dict[str, float]:
    main = profile.levels[-1]
    extra = {f"memory_bytes_per_s_{n}_threads": _figure(main.bandwidth_bytes_per_s(n)) for n in main.by_threads}
    for fmt, by_threads in profile.peaks.items():
        extra |= {f"{fmt}_flops_{n}_threads": _figure(profile.peak_flops(fmt, n)) for n in by_threads}
    return {**extra, "fork_join_s": _figure(profile.fork_join.median_s), "call_s": _figure(profile.launch.median_s)}


def _constants(calibration: Calibration) -> dict[str, Any]:
    """One entry as the packaged efficiency files have it: constants, residual quantiles, rows and errors."""
    f = calibration.fitted
    return {
        "c": {key: _figure(value) for key, value in f.c.items()},
        "residual": [[".inf", *(_figure(q) for q in f.residual)]],
        "rows": len(f.errors),
        "groups": 1,
        "median": _figure(f.median_error),
        "p90": _figure(f.worst_error),
    }


def _figure(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _vendor(cpu: str) -> str:
    names = ("Intel", "AMD", "Apple", "Ampere", "Qualcomm")
    return next((n for n in names if n.lower() in cpu.lower()), re.split(r"\W", cpu)[0] or "unknown")


def machine_yaml(record: Mapping[str, Any]) -> str:
    """The record as YAML text, infinities as YAML writes them."""
    import yaml

    text = yaml.safe_dump(dict(record), sort_keys=False, allow_unicode=True, width=120)
    return text.replace("'.inf'", ".inf")


def save_machine(record: Mapping[str, Any], path: Path) -> None:
    """Write a hardware file, whole or not at all. Raises: FileFormatError when it cannot be written."""
    with contextlib.suppress(OSError):  # what is missing for another reason is said by the writer
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, machine_yaml(record))


def this_machine_path() -> Path:
    """Where the measured file of this machine is kept: one per fingerprint."""
    from waferline.measure.fingerprint import fingerprint

    return cache_folder() / "machines" / f"{fingerprint().digest}.yaml"


def record_of(path: Path) -> dict[str, Any]:
    """A hardware file as plain data. Raises: FileFormatError when it cannot be read or breaks the schema."""
    from waferline.catalog import yaml_file
    from waferline.machines.schema import parse_hardware

    return parse_hardware(yaml_file.read_file(path), str(path)).record()


def read_machine(path: Path) -> tuple[Device, Mapping[str, Any]]:
    """A hardware file as (device, its `efficiency` section, empty without one).

    Raises: FileFormatError when it cannot be read or breaks the schema.
    """
    from waferline.machines.hardware import device_from_record

    device = device_from_record(record_of(path))
    return device, device.efficiency


def read_this_machine() -> tuple[Device, Mapping[str, Any]]:
    """The machine at hand, as `waferline measure machine` found it: (device, efficiency section).

    Raises: RefusedError when it was never measured, or has changed since: nothing is guessed from its name.
    """
    path = this_machine_path()
    if not path.exists():
        raise RefusedError(
            "this machine was not measured yet", where=THIS, hint="run `waferline measure machine` first"
        )
    return read_machine(path)


def this_machine() -> Device:
    """The machine at hand as a `Device`. Raises: RefusedError when it was never measured."""
    return read_this_machine()[0]
