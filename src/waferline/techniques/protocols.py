"""Collectives whose library picks the fastest of several protocols, each a latency and a bandwidth.

    t(S) = min over protocols of [ latency + 2 (n - 1) / n · S / bandwidth ]

Bandwidth carries over between machines with the same links; latency does not, so a transfer answers only where bandwidth
decides. Source of the form: Hockney 1994, and the protocol choice of NCCL and RCCL (LL, LL128, Simple).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol of an all-reduce over `ranks` devices, fitted to messages of at least `least_bytes`."""

    latency_s: float
    bytes_per_s: float
    ranks: int
    least_bytes: float

    def time_s(self, message_bytes: npt.ArrayLike) -> FloatArray:
        """Seconds. Raises: UnsupportedError for messages below what the protocol was fitted to."""
        sizes = np.asarray(message_bytes, dtype=np.float64)
        if np.any(sizes < self.least_bytes):
            raise UnsupportedError(
                f"messages of {sizes.min():.0f} bytes are below the {self.least_bytes:.0f} that were fitted",
                hint="latency does not carry over from one machine to another",
            )
        return np.asarray(self.latency_s + wire_bytes(sizes, self.ranks) / self.bytes_per_s)


def wire_bytes(message_bytes: npt.ArrayLike, ranks: int) -> FloatArray:
    """Bytes that cross each device's links in an all-reduce."""
    return np.asarray(2.0 * (ranks - 1) / ranks * np.asarray(message_bytes, dtype=np.float64))


def fit(message_bytes: FloatArray, times_s: FloatArray, ranks: int) -> Protocol:
    """Latency and bandwidth with the least squared relative error."""
    design = np.column_stack([np.ones(len(times_s)), wire_bytes(message_bytes, ranks)]) / times_s[:, None]
    latency, inverse = np.linalg.lstsq(design, np.ones(len(times_s)), rcond=None)[0]
    return Protocol(float(latency), float(1.0 / inverse), ranks, float(np.min(message_bytes)))
