"""The CPU as the resident device: LAPACK and BLAS through NumPy, X and all work arrays made once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.measure.engine import Cpu, NotEngaged
from waferline.measure.resident.shapes import EncodeShape


@dataclass(slots=True)
class CpuSolver:
    """Normal equations on this processor. `device` is what the measurement engine asks about it."""

    device: Cpu
    ridge: float
    _x: FloatArray | None = None
    _scaled: FloatArray | None = None

    def fits(self, shape: EncodeShape) -> None:
        from waferline.measure.engine import foresee_memory

        foresee_memory(shape.resident_bytes, f"{shape.label} on the CPU")

    def stage(self, x: FloatArray) -> None:
        """Copy X once."""
        self._x = np.ascontiguousarray(x)
        self._scaled = np.empty_like(self._x)

    def solve(self, w: FloatArray, rhs: FloatArray) -> Any:
        """β f64[p]. Raises: NotEngaged when X was not staged."""
        if self._x is None or self._scaled is None:
            raise NotEngaged("X was not staged")
        np.multiply(self._x, w[:, None], out=self._scaled)
        gram = self._x.T @ self._scaled
        gram[np.diag_indices(len(gram))] += self.ridge
        return _cholesky_solve(gram, rhs)


def _cholesky_solve(gram: FloatArray, rhs: FloatArray) -> FloatArray:
    """Two triangular solves by blocks after LAPACK's factor: NumPy has no triangular solve of its own."""
    factor: FloatArray = np.asarray(np.linalg.cholesky(gram), np.float64)
    y = _forward(factor, rhs)
    return _forward(factor.T[::-1, ::-1], y[::-1])[::-1]


_BLOCK = 256


def _forward(lower: FloatArray, rhs: FloatArray) -> FloatArray:
    """y with lower·y = rhs, by blocks: a small dense solve on the diagonal, a product below it."""
    y = rhs.copy()
    for j0 in range(0, len(y), _BLOCK):
        j1 = min(j0 + _BLOCK, len(y))
        y[j0:j1] = np.linalg.solve(lower[j0:j1, j0:j1], y[j0:j1] - lower[j0:j1, :j0] @ y[:j0])
    return y
