"""Choosing a grid: the fastest square region whose layers fit the wafers at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.predict.wafer.case import Case
from waferline.workloads.scenario import whole

SMALLEST_SIDE = 32  # below it a layer of any model in the catalogue leaves no room and the mesh is all latency
_CELLS = 1 << 18  # scenarios × candidate grids per pass: temporaries stay in cache


@dataclass(frozen=True, slots=True)
class Candidates:
    """Every candidate side for one phase: seconds of the pass and wafers needed, over (scenario, side)."""

    sides: FloatArray  # (side,)
    time_s: FloatArray
    systems: FloatArray

    def fewest(self) -> FloatArray:
        """Wafers that the most frugal side needs, per scenario."""
        return np.asarray(self.systems.min(axis=-1))

    def fastest(self, systems: FloatArray) -> FloatArray:
        """The side of least time that needs at most `systems` wafers; the most frugal side where none does."""
        fits = self.systems <= systems[..., None]
        best = np.argmin(np.where(fits, self.time_s, np.inf), axis=-1)
        frugal = np.argmin(self.systems, axis=-1)
        return np.asarray(self.sides[np.where(fits.any(axis=-1), best, frugal)])


def candidate_sides(case: Case, given: Any) -> FloatArray:
    """All sides a square region of this wafer can have, or the one that is given.

    Raises: InvalidInputError for a side that is not a whole number (larger than the wafer: `check_grid`).
    """
    if isinstance(given, str):
        most = min(case.parameters.grid_width, case.parameters.grid_height)
        return np.arange(SMALLEST_SIDE, most + 1, dtype=np.float64)
    return np.atleast_1d(whole("grid", given)).astype(np.float64)


def survey(case: Case, sides: FloatArray, tokens: FloatArray, batch: FloatArray, *, prefill: bool) -> Candidates:
    """Time and wafers of every side for flat arrays of scenarios."""
    tokens, batch = np.broadcast_arrays(np.atleast_1d(tokens), np.atleast_1d(batch))
    rows = max(1, _CELLS // sides.size)
    times, systems = [], []
    for start in range(0, tokens.size, rows):
        t, b = tokens[start : start + rows, None], batch[start : start + rows, None]
        at = case.prefill(sides[None, :], t, b) if prefill else case.decode(sides[None, :], t, b)
        shape = np.broadcast_shapes(t.shape, (1, sides.size))
        times.append(np.broadcast_to(at.time_s, shape))
        systems.append(np.broadcast_to(at.placement.systems, shape))
    return Candidates(sides, np.concatenate(times), np.concatenate(systems))
