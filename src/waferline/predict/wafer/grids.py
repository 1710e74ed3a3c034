"""Choosing a grid: the fastest square region whose layers fit the wafers at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray
from waferline.predict.wafer.case import Case

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


def every_side(case: Case) -> FloatArray:
    """All sides a square region of this wafer can have."""
    most = min(case.parameters.grid_width, case.parameters.grid_height)
    return np.arange(SMALLEST_SIDE, most + 1, dtype=np.float64)


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


def nearest_fitting(
    case: Case, side: float, systems: float, batch: FloatArray, phases: Mapping[bool, FloatArray]
) -> int | None:
    """The side nearest to `side` on which the model fits `systems` wafers; None where none does.

    phases: tokens of the prefill (True) and of the decode step (False) that the grid has to hold.
    """
    sides = every_side(case)
    needed = [case.place(sides, tokens, batch, prefill=prefill).systems for prefill, tokens in phases.items()]
    fitting = sides[np.broadcast_to(np.maximum.reduce(needed), sides.shape) <= systems]
    return int(fitting[np.argmin(np.abs(fitting - side))]) if fitting.size else None
