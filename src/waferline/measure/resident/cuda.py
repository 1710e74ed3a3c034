"""A GPU as the resident device, through `waferline.kernels.gpu`; without one, a device that says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from waferline.arrays import FloatArray
from waferline.errors import DoesNotFitError
from waferline.measure.engine import NotEngaged
from waferline.measure.resident.shapes import EncodeShape
from waferline.measure.resident.solver import Solver


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """A torch device as the engine sees it. Work is queued: only `synchronise` says that it is done."""

    name: str
    threads: int = 0

    def unavailable(self) -> str | None:
        from waferline.kernels.gpu.available import unavailable

        return unavailable()

    def synchronise(self) -> None:
        import torch

        torch.cuda.synchronize(self.name)

    def holds(self, result: Any) -> bool:
        """The factor the answer came from lies on this device; β itself comes back to the host by contract."""
        return result is not None


@dataclass(slots=True)
class CudaSolver:
    """Normal equations on a GPU: `kernels.gpu.resident` with its evidence of where the work was done."""

    device: TorchDevice
    ridge: float
    _resident: Any = None

    def fits(self, shape: EncodeShape) -> None:
        from waferline.kernels.gpu.available import free_device_bytes

        free = free_device_bytes()
        if shape.resident_bytes > free:
            raise DoesNotFitError(
                f"{shape.label} needs {shape.resident_bytes / 1e9:.2f} GB on the device, {free / 1e9:.2f} GB are free",
                where=self.device.name,
            )

    def stage(self, x: FloatArray) -> None:
        from waferline.kernels.gpu.resident import ResidentNormalEquations

        self._resident = ResidentNormalEquations(x, self.ridge, self.device.name)
        if not self._resident.on_device():
            raise NotEngaged(f"X is not on {self.device.name}")

    def solve(self, w: FloatArray, rhs: FloatArray) -> Any:
        """β f64[p] on the host. Raises: NotEngaged when any step left the device."""
        beta = self._resident.solve(w, rhs)
        if not self._resident.on_device():
            raise NotEngaged(f"the Gram matrix or its factor is not on {self.device.name}")
        return beta


def cuda_solver(ridge: float) -> Solver:
    """The first GPU, or what stands for it where there is none."""
    return CudaSolver(TorchDevice("cuda:0"), ridge)
