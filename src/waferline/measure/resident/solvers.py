"""What does the resident solve: this processor through LAPACK, or a GPU through `kernels.gpu`. Neither stands in for the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import DoesNotFitError, unknown
from waferline.measure.engine import ComputeDevice, Cpu, NotEngaged, foresee_memory
from waferline.measure.resident.shapes import RIDGE, EncodeShape


class Solver(Protocol):
    """What a device has to do. `device` tells the engine whether it is there and whether it did the work."""

    @property
    def device(self) -> ComputeDevice: ...

    def fits(self, shape: EncodeShape) -> None:
        """Raises: DoesNotFitError when the shape needs more memory than is free."""
        ...

    def stage(self, x: FloatArray) -> None:
        """Take X once."""
        ...

    def solve(self, w: FloatArray, rhs: FloatArray) -> Any:
        """β, as an array of the device's own kind or as f64[p]. Raises: NotEngaged when any step left the device."""
        ...


@dataclass(slots=True)
class CpuSolver:
    """X and all work arrays made once; the Gram matrix through BLAS, the factor through LAPACK."""

    device: Cpu
    ridge: float = RIDGE
    _x: FloatArray | None = None
    _scaled: FloatArray | None = None

    def fits(self, shape: EncodeShape) -> None:
        foresee_memory(shape.resident_bytes, f"{shape.label} on the CPU")

    def stage(self, x: FloatArray) -> None:
        self._x = np.ascontiguousarray(x)
        self._scaled = np.empty_like(self._x)

    def solve(self, w: FloatArray, rhs: FloatArray) -> Any:
        from scipy.linalg import cho_factor, cho_solve

        if self._x is None or self._scaled is None:
            raise NotEngaged("X was not staged")
        np.multiply(self._x, w[:, None], out=self._scaled)
        gram = self._x.T @ self._scaled
        gram[np.diag_indices(len(gram))] += self.ridge
        # NaN and infinity go through: the check against the oracle sees them.
        factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        return cho_solve(factor, rhs, check_finite=False)


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
    ridge: float = RIDGE
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
        self._on_device("X")

    def solve(self, w: FloatArray, rhs: FloatArray) -> Any:
        """β f64[p] on the host."""
        beta = self._resident.solve(w, rhs)
        self._on_device("the Gram matrix or its factor")
        return beta

    def _on_device(self, what: str) -> None:
        if not self._resident.on_device():
            raise NotEngaged(f"{what} is not on {self.device.name}")


def solver_of(device: str) -> Solver:
    """The solver of a kind of device; the first GPU, or what says why there is none. Raises: UnknownNameError."""
    if device not in _SOLVERS:
        raise unknown("device", device, _SOLVERS)
    return _SOLVERS[device]()


def _cpu() -> Solver:
    from waferline.kernels.cpu.threads import available_threads

    return CpuSolver(Cpu(available_threads()))


_SOLVERS: Mapping[str, Callable[[], Solver]] = {"cuda": lambda: CudaSolver(TorchDevice("cuda:0")), "cpu": _cpu}
