"""Fit the layer constants of `mesh_fits.yaml` again from their published rows, and judge them by leaving each row out in turn.

`python -m benchmarks.fit.wafer` prints both. The times are the product's own: a constant's column is what the price of a layer
gains with it. Decode: least squares on cycles. Prefill: least squares on relative error, shifts taken as hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks.fit.wafer_rows import Published, published
from waferline.arrays import FloatArray
from waferline.catalog.yaml_file import read_packaged
from waferline.machines.mesh import load_parameters
from waferline.machines.mesh_costs.fitted import RELEASED_GROUPS, tree_stages
from waferline.predict.wafer.case import Case, make_case

CONSTANTS = {
    "decode": ("stage_cycles", "row_cycles", "layer_cycles"),
    "prefill": ("map_base_cycles", "map_element_cycles", "step_cycles"),
}


@dataclass(frozen=True, slots=True)
class Design:
    """Rows as a linear problem: `terms @ constants + known = cycles` of one layer."""

    rows: tuple[Published, ...]
    terms: FloatArray  # (row, constant)
    known: FloatArray
    cycles: FloatArray
    relative: bool  # least squares on relative rather than absolute error

    def fit(self, keep: npt.NDArray[np.bool_] | None = None) -> FloatArray:
        """The constants that fit the rows in `keep` (all when None)."""
        keep = np.ones(len(self.rows), dtype=bool) if keep is None else keep
        weight = 1.0 / self.cycles[keep] if self.relative else np.ones(int(keep.sum()))
        target = (self.cycles - self.known)[keep] * weight
        return np.asarray(np.linalg.lstsq(self.terms[keep] * weight[:, None], target, rcond=None)[0])

    def rate_errors(self, constants: FloatArray) -> FloatArray:
        """Predicted over published rate, less one, of every row."""
        return np.asarray(self.cycles / (self.terms @ constants + self.known) - 1.0)

    def left_out(self) -> FloatArray:
        """That error of each row under constants fitted on all the others."""
        out = np.empty(len(self.rows))
        for i in range(len(self.rows)):
            keep = np.arange(len(self.rows)) != i
            out[i] = self.rate_errors(self.fit(keep))[i]
        return out


def design(parameter_set: str, phase: str) -> Design:
    """The linear problem behind a parameter set's constants of a phase."""
    wanted = read_packaged("mesh_fits.yaml")[parameter_set][phase]["calibrated_on"]
    rows = tuple(row for row in published() if row.id in wanted)
    cycles = {"decode": _decode_cycles, "prefill": _prefill_cycles}[phase]
    known, terms, measured = [], [], []
    for row in rows:
        case = make_case(row.model, "cs2", "fp16", "released-code", load_parameters(parameter_set))
        nothing = cycles(case, row, np.zeros(3))
        known.append(nothing)
        terms.append([cycles(case, row, one) - nothing for one in np.eye(3)])
        tokens = row.input_tokens if phase == "prefill" else 1
        measured.append(tokens * case.parameters.clock_hz / (case.layer_count * row.value))
    return Design(rows, np.array(terms), np.array(known), np.array(measured), relative=phase == "prefill")


def _decode_cycles(case: Case, row: Published, constants: FloatArray) -> float:
    stage, per_row, layer = (float(x) for x in constants)
    parameters = case.parameters.with_values(stage_cycles=stage)
    prices = replace(case.prices, parameters=parameters, row=per_row, layer=layer)
    side = row.grids[0]
    stages = tree_stages(side, RELEASED_GROUPS[side])
    at = case.decode(side, np.asarray(row.input_tokens), np.asarray(1.0), stages, prices)
    return float(at.time_s) * case.parameters.clock_hz / case.layer_count


def _prefill_cycles(case: Case, row: Published, constants: FloatArray) -> float:
    base, element, step = (float(x) for x in constants)
    hidden = case.parameters.with_values(hop_cycles=0.0, link_words_per_cycle=1e30)  # shifts cost nothing
    prices = replace(case.prices, parameters=hidden, map_base=base, map_element=element, step=step)
    at = replace(case, prices=prices).prefill(row.grids[0], np.asarray(row.input_tokens), np.asarray(1.0))
    return float(at.time_s) * case.parameters.clock_hz / case.layer_count


def main(show: Callable[[str], None] = print) -> None:
    for name, entry in read_packaged("mesh_fits.yaml").items():
        for phase, constants in CONSTANTS.items():
            if not entry[phase] or len(entry[phase]["calibrated_on"]) <= len(constants):
                continue  # too few rows to fit all constants, let alone to leave one out
            problem = design(name, phase)
            fitted = problem.fit()
            values = ", ".join(f"{key} {value:.4g}" for key, value in zip(constants, fitted, strict=True))
            worst, left = (np.abs(e).max() for e in (problem.rate_errors(fitted), problem.left_out()))
            show(f"{name} {phase}: {values}; worst error {worst:.1%}, of a row left out {left:.1%}")


if __name__ == "__main__":
    main()
