"""A machine that predict can be asked about, with its measured constants, and what predict says of an operator there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from waferline.errors import RefusedError
from waferline.formats import Precision, resolve
from waferline.machines.device import Device
from waferline.machines.hardware import FILE_ENDINGS, load_hardware
from waferline.measure.machine_file import THIS, read_machine, read_this_machine
from waferline.predict.efficiency.coefficients import Record
from waferline.predict.efficiency.intervals import interval
from waferline.predict.efficiency.profile import record_for, records
from waferline.predict.roofline import BOUNDS, Machine, time_operator
from waferline.workloads.operator import Operator


@dataclass(frozen=True, slots=True)
class Known:
    """A machine that predict can be asked about, with its measured constants where there are any."""

    device: Device
    records: Mapping[str, Record]

    def on_threads(self, threads: int) -> Known:
        """The part of the machine that `threads` threads are: their measured roofs, or an even share of them."""
        d = self.device
        if d.kind != "cpu" or threads == d.units:
            return self
        share = threads / d.units
        peaks = {f: d.extra.get(f"{f}_flops_{threads}_threads", p * share) for f, p in d.peak_flops.items()}
        memory = d.extra.get(f"memory_bytes_per_s_{threads}_threads", d.bandwidth_bytes_per_s * share)
        levels = [replace(x, bandwidth_bytes_per_s=x.bandwidth_bytes_per_s * share) for x in d.memory[:-1]]
        last = replace(d.main_memory, bandwidth_bytes_per_s=memory)
        return Known(d.with_(units=threads, peak_flops=peaks, memory=(*levels, last)), self.records)

    def time_at(self, op: Operator, c: Mapping[str, float], memory_bytes_per_s: float) -> float:
        """Predict's seconds of `op` under the constants `c`, with main memory as fast as it was at some moment."""
        last = replace(self.device.main_memory, bandwidth_bytes_per_s=memory_bytes_per_s)
        return time_with(self.device.with_(memory=(*self.device.memory[:-1], last)), op, c)

    def in_one_step(self) -> Known:
        """The same machine for operators inside one compiled step: started by a fork, not by a call from Python."""
        fork_s = self.device.extra.get("fork_join_s")
        if fork_s is None:
            return self

        def quicker(record: Record) -> Record:
            return replace(record, c={**record.c, "floor_s": min(record.c["floor_s"], fork_s)})

        return Known(self.device, {key: quicker(record) for key, record in self.records.items()})

    def precision(self, name: str) -> Precision:
        return resolve(name, self.device.arithmetic)


def known_machine(on: str | None) -> Known:
    """The machine called `on`: "this", a hardware file, or a catalogue name. Raises: as `load_hardware`, RefusedError."""
    if on is None or on == THIS:
        device, section = read_this_machine()
    elif on.lower().endswith(FILE_ENDINGS):
        device, section = read_machine(Path(on))
    else:
        device, section = load_hardware(on), {}
    return Known(device, records(section))


def known_or_none(on: str | None) -> Known | None:
    """`known_machine`, or None when no machine was named and this one was never measured."""
    try:
        return known_machine(on)
    except RefusedError:
        if on is not None:
            raise
        return None


def time_with(device: Device, op: Operator, c: Mapping[str, float]) -> float:
    """Predict's seconds of `op` on `device` under the constants `c`."""
    record = Record("this", op.kind, "", "waferline", c, (), 0, 0, "", 0.0, 0.0, "", "")
    return float(time_operator(op, Machine(device, profile={op.kind: record})).expected_s)


def constants_of(device: Device, op: Operator) -> Mapping[str, float]:
    """The constants predict uses for `op` on `device` when nothing was measured there."""
    return time_operator(op, Machine(device)).record.c


def predicted(known: Known, op: Operator) -> dict[str, Any]:
    """What predict says of `op`: expected seconds with its 90 % interval, the bound, and how the constants are known."""
    record = record_for(known.records, op)
    timed = time_operator(op, Machine(known.device, profile={op.kind: record} if record else None))
    spread = interval(timed.record.residual, timed.expected_s)
    expected_s = float(timed.expected_s)
    return {
        "machine": known.device.name,
        "expected_s": expected_s,
        "low90_s": max(float(expected_s * spread.low90), float(timed.light_s)),
        "high90_s": float(expected_s * np.asarray(spread.high90)),
        "light_s": float(timed.light_s),
        "bound": BOUNDS[int(timed.bound)],
        "tier": timed.tier,
        "flops": float(op.flops),
        "bytes": float(op.bytes),
    }
