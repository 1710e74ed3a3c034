"""What a mesh simulation answers: time and its split, utilisation, limits, energy, numerical error, and the trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from waferline.arrays import FloatArray
from waferline.errors import UnsupportedError, unknown
from waferline.machines.mesh import MeshParameters
from waferline.simulate.mesh.compliance import Compliance

FIDELITIES = ("auto", "event", "closed")
"""Every word through the routers, formulas, or the first where it takes seconds and else the second."""


def runs_events(fidelity: str, work: float, quick: float, most: float, *, where: str, missing: str = "") -> bool:
    """Whether a run goes event by event: `work` word moves of which `quick` take seconds and `most` minutes.

    `missing` says what the event engine lacks for it, if anything.

    Raises:
        UnknownNameError: no such fidelity.
        UnsupportedError: events asked for, and they are too many or cannot be run.
    """
    if fidelity not in FIDELITIES:
        raise unknown("fidelity", fidelity, FIDELITIES)
    if fidelity != "event":
        return fidelity == "auto" and work <= quick and not missing
    if missing:
        raise UnsupportedError(missing, where=where, hint="--fidelity closed")
    if work > most:
        raise UnsupportedError(f"{work:.1e} word moves are too many to run event by event", where=where,
                               hint="--fidelity closed, or a smaller operator")  # fmt: skip
    return True


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Largest absolute difference from a NumPy reference in float64, and the tolerance stated for it."""

    max_abs_error: float
    tolerance: float
    reference: str

    @property
    def passes(self) -> bool:
        """Within the tolerance."""
        return self.max_abs_error <= self.tolerance


@dataclass(frozen=True, slots=True)
class MeshResult:
    """One operator on a mesh. Cycles are of the slowest core; `energy_j` is the whole device's power over the time."""

    operation: str
    algorithm: str
    width: int
    height: int
    parameters: MeshParameters
    fidelity: str
    cycles: float
    compute_cycles: float
    communication_cycles: float
    overlap_cycles: float
    steps: int
    hop_words: int  # link words times links crossed
    colours: int  # at the fullest router
    memory_bytes: dict[str, int]
    compliance: Compliance
    accuracy: Accuracy | None = None
    closed_form_cycles: float | None = None
    trace: list[dict[str, Any]] = field(default_factory=list)
    heat: FloatArray | None = None  # (height, width), see heat_quantity
    heat_quantity: str = ""
    finish_cycles: FloatArray | None = None  # (height, width), event fidelity only
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def how(self) -> Literal["simulated", "predicted"]:
        """`simulated` where the machine was run, `predicted` where cycles are a formula's."""
        return "simulated" if self.fidelity == "event" else "predicted"

    @property
    def seconds(self) -> float:
        """Cycles at the set's clock."""
        return self.cycles / self.parameters.clock_hz

    @property
    def energy_j(self) -> float:
        """Whole-device power times seconds."""
        return self.parameters.power_w * self.seconds

    @property
    def n_links(self) -> int:
        """Link directions inside the grid."""
        return 2 * (self.width * (self.height - 1) + self.height * (self.width - 1))

    @property
    def link_utilisation(self) -> float:
        """Share of all link slots of the grid that carried a word."""
        slots = self.n_links * self.cycles * self.parameters.link_words_per_cycle
        return self.hop_words / slots if slots else 0.0

    @property
    def used_bytes(self) -> int:
        """SRAM bytes per core."""
        return sum(self.memory_bytes.values())

    @property
    def sram_utilisation(self) -> float:
        """Share of a core's SRAM that is taken."""
        return self.used_bytes / self.parameters.sram_bytes

    def to_json(self) -> dict[str, object]:
        """The result as data (SI floats and cycles), without the heat map."""
        p, numbers = self.parameters, self.accuracy
        return {
            **{name: getattr(self, name) for name in _SHOWN},
            "grid": [self.width, self.height],
            "device": p.device,
            "parameter_set": p.name,
            "colour_limit": p.colours,
            "memory_used_bytes": self.used_bytes,
            "memory_limit_bytes": p.sram_bytes,
            **{key: numbers and getattr(numbers, key) for key in ("max_abs_error", "tolerance", "reference")},
            "compliance": self.compliance.to_json(),
            **self.details,
        }


_SHOWN = (
    *("how", "operation", "algorithm", "fidelity", "cycles", "seconds", "compute_cycles", "communication_cycles"),
    *("overlap_cycles", "closed_form_cycles", "steps", "hop_words", "link_utilisation", "sram_utilisation", "colours"),
    *("memory_bytes", "energy_j"),
)


def compare(values: NDArray, reference: NDArray, tolerance: float, name: str) -> Accuracy:
    """The largest absolute difference of `values` from `reference`."""
    return Accuracy(float(np.max(np.abs(np.asarray(values, float) - reference), initial=0.0)), float(tolerance), name)


UNIT_ROUNDOFF = {"fp32": 2.0**-24, "fp16": 2.0**-11, "int8": 0.0}
ROUNDING_SIGMAS = 6.0


def rounding_tolerance(terms: int, scale: float, number_format: str) -> float:
    """Six sigma of the random walk of `terms` roundings, each at most one unit roundoff of `scale` (largest |result|).

    Whole-number formats are exact: the tolerance is 0.
    """
    return ROUNDING_SIGMAS * UNIT_ROUNDOFF[number_format] * float(np.sqrt(terms)) * scale
