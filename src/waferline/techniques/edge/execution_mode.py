"""How a program is made to run on a machine it was not built for, as a multiplier of time and energy with its source.

native: compiled for the machine. transpiled: its assembly rewritten ahead of time. translated: its instructions
rewritten while it runs. soft-float: the machine has no floating point, so each operation is a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.catalog.yaml_file import read_packaged
from waferline.errors import unknown

_FILE = "studies/guaranteed-guess.yaml"


@dataclass(frozen=True, slots=True)
class ExecutionMode:
    """Multipliers over a native run; energy is nan where it was not measured. machine: where they were measured."""

    name: str
    time: float
    energy: float
    machine: str
    source: str

    def seconds(self, native_s: npt.ArrayLike) -> FloatArray:
        """Time in this mode of what takes `native_s` natively."""
        return np.asarray(native_s, np.float64) * self.time

    def joules(self, native_j: npt.ArrayLike) -> FloatArray:
        """Energy in this mode of what takes `native_j` natively."""
        return np.asarray(native_j, np.float64) * self.energy


def execution_modes() -> dict[str, ExecutionMode]:
    """All modes by name, computed from their measurements."""
    entries: Mapping[str, Any] = read_packaged(_FILE)["modes"]
    native = entries["native"]
    return {name: _mode(name, entry, native) for name, entry in entries.items()}


def execution_mode(name: str) -> ExecutionMode:
    """The mode called `name`. Raises: UnknownNameError naming the nearest."""
    modes = execution_modes()
    if name not in modes:
        raise unknown("execution mode", name, modes)
    return modes[name]


def _mode(name: str, entry: Mapping[str, Any], native: Mapping[str, Any]) -> ExecutionMode:
    time = entry["times_native"] if "times_native" in entry else entry["time_s"] / native["time_s"]
    energy = entry["energy_j"] / native["energy_j"] if "energy_j" in entry else float("nan")
    return ExecutionMode(name, float(time), float(energy), entry["machine"], entry["source"])
