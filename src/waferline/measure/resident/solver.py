"""What a device has to do for the resident solve."""

from __future__ import annotations

from typing import Any, Protocol

from waferline.arrays import FloatArray
from waferline.measure.engine import ComputeDevice
from waferline.measure.resident.shapes import EncodeShape


class Solver(Protocol):
    """What a device has to do. `device` tells the engine whether it is there and whether it did the work."""

    @property
    def device(self) -> ComputeDevice: ...

    def fits(self, shape: EncodeShape) -> None:
        """Raises: DoesNotFitError when the shape needs more memory than is free."""
        ...

    def stage(self, x: FloatArray) -> None: ...

    def solve(self, w: FloatArray, rhs: FloatArray) -> Any:
        """β, as an array of the device's own kind or as f64[p]."""
        ...
