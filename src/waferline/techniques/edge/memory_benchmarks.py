"""What memory-bound benchmarks of a CPU should reach: peak bandwidth, the share streaming keeps, FLOPs a byte of HPCG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.machines.device import Device
from waferline.predict.roofline import Machine, time_operator
from waferline.workloads.operator import Operator

_ELEMENTS = 1e9  # large enough that start-up does not count
_BYTES = 8.0


def streaming_share(device: Device) -> float:
    """Share of the peak bandwidth that the roofline expects a long fp64 stream to reach on `device`."""
    nothing = np.zeros(())
    stream = Operator(
        name="stream",
        kind="elementwise",
        count=np.ones(()),
        flops=np.asarray(_ELEMENTS),
        weight_bytes=nothing,
        activation_bytes=np.asarray(2 * _BYTES * _ELEMENTS),
        kv_bytes=nothing,
        weights="fp64",
        activations="fp64",
        kv="fp64",
        shape={"elements": np.asarray(_ELEMENTS)},
    )
    seconds = float(time_operator(stream, Machine(device)).expected_s)
    return 2 * _BYTES * _ELEMENTS / seconds / device.bandwidth_bytes_per_s


@dataclass(frozen=True, slots=True)
class Hpcg:
    """Traffic and arithmetic of one CG iteration a row of the finest grid; see the specification for the counts."""

    nonzeros: int
    value_bytes: int
    index_bytes: int
    vector_bytes: int
    fine_passes: int
    coarse_passes: Sequence[int]
    vector_flops: int
    update_bytes: int

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Hpcg:
        return cls(**facts)

    @property
    def passes(self) -> float:
        """Passes over the matrix, coarse grids weighted by their rows (an eighth a level)."""
        return self.fine_passes + sum(p / 8 ** (i + 1) for i, p in enumerate(self.coarse_passes))

    @property
    def flops_per_byte(self) -> float:
        """Arithmetic intensity: a multiply-add a nonzero and pass, and the vector operations."""
        bytes_per_pass = self.nonzeros * (self.value_bytes + self.index_bytes) + self.vector_bytes
        flops = 2 * self.nonzeros * self.passes + self.vector_flops
        return flops / (bytes_per_pass * self.passes + self.update_bytes)
