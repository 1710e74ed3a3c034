"""The reference that a device has to agree with: normal equations by a Cholesky factorisation written out."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError, RefusedError

_BLOCK = 128  # columns factored together; the rest is one product a block


def cpu_oracle_normal_equations_solve(x: FloatArray, w: FloatArray, rhs: FloatArray, ridge: float) -> FloatArray:
    """β f64[p] with (XᵀWX + ridge·I) β = rhs; X f64[n, p], w f64[n] >= 0, rhs f64[p].

    The Gram matrix comes from √w-scaled X (so it is symmetric as computed), the factor from a left-looking blocked
    Cholesky whose every pivot is asserted positive. Shares no routine with LAPACK's `potrf` that devices use.

    Raises: InvalidInputError for shapes that disagree or a negative weight, RefusedError for a pivot that is not positive.
    """
    n, p = x.shape
    if w.shape != (n,) or rhs.shape != (p,) or not (np.isfinite(w).all() and (w >= 0).all()):
        raise InvalidInputError(f"X {x.shape}, w {w.shape}, rhs {rhs.shape}", hint="w must be finite and not negative")
    scaled = np.sqrt(w)[:, None] * x
    gram = scaled.T @ scaled
    gram[np.diag_indices(p)] += ridge
    factor = _cholesky(gram)
    half = solve_triangular(factor, rhs, lower=True, check_finite=False)
    return np.asarray(solve_triangular(factor, half, lower=True, trans="T", check_finite=False), np.float64)


def _cholesky(a: FloatArray) -> FloatArray:
    """Lower L with L·Lᵀ = a (Golub and Van Loan, algorithm 4.2.1, by blocks)."""
    p = a.shape[0]
    factor = np.zeros_like(a)
    for j0 in range(0, p, _BLOCK):
        j1 = min(j0 + _BLOCK, p)
        panel = a[j0:, j0:j1] - factor[j0:, :j0] @ factor[j0:j1, :j0].T
        for j in range(j1 - j0):
            done = panel[:, :j]
            column = panel[j:, j] - done[j:] @ done[j]
            if not column[0] > 0.0:
                raise RefusedError(f"the Gram matrix is not positive definite: pivot {j0 + j} is {column[0]!r}")
            panel[j:, j] = column / np.sqrt(column[0])
            panel[:j, j] = 0.0
        factor[j0:, j0:j1] = panel
    return factor
