"""Normal equations that stay on the GPU: X is staged once, w and the right side go in, β comes out. fp64 throughout.

The Gram product, the Cholesky factor and the triangular solves are the vendor's (cuBLAS, cuSOLVER): at these sizes they
are what any kernel of our own would be measured against.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from waferline.arrays import FloatArray


class ResidentNormalEquations:
    """(XᵀWX + ridge·I) β = rhs for one X f64[n, p] on one torch device; work arrays are made once."""

    def __init__(self, x: FloatArray, ridge: float, device: str) -> None:
        import torch

        self.device = torch.device(device)
        self._x = torch.from_numpy(np.ascontiguousarray(x)).to(self.device)
        p = self._x.shape[1]
        self._scaled = torch.empty_like(self._x)
        self._gram = torch.empty((p, p), dtype=torch.float64, device=self.device)
        self._ridge = ridge
        self._factor: Any = self._gram

    def on_device(self) -> bool:
        """Whether X, the weighted X, the Gram matrix and its latest factor all lie on the device that was asked for."""
        held = (self._x, self._scaled, self._gram, self._factor)
        return all(t.device == self._x.device and t.device.type == self.device.type for t in held)

    def solve(self, w: FloatArray, rhs: FloatArray) -> FloatArray:
        """β f64[p] on the host; w f64[n], rhs f64[p] go to the device.

        Raises: RuntimeError when the Gram matrix is not positive definite or the device fails.
        """
        import torch

        weights = torch.from_numpy(w).to(self.device)
        right = torch.from_numpy(rhs).to(self.device)
        torch.mul(self._x, weights[:, None], out=self._scaled)
        torch.mm(self._x.T, self._scaled, out=self._gram)
        self._gram.diagonal().add_(self._ridge)
        self._factor, info = torch.linalg.cholesky_ex(self._gram)
        beta = torch.cholesky_solve(right[:, None], self._factor)[:, 0]
        host: FloatArray = beta.cpu().numpy()  # waits for the device
        if int(info):
            raise RuntimeError(f"the Gram matrix is not positive definite: leading minor {int(info)}")
        return host
