"""Fitting the layer constants again from their published rows, and judging them by leaving each row out in turn.

Decode: least squares on cycles over (software stages, GEMV rows, one), with hops, multiply-adds and payload at their
architectural cost. Prefill: least squares on relative error over the terms of the local GEMM kernel and its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.catalog.yaml_file import read_packaged
from waferline.machines.mesh import MeshParameters, load_parameters
from waferline.machines.mesh_costs.transformer import (
    RELEASED_GROUPS,
    LayerShape,
    decode_counts,
    prefill_gemms,
    tile,
    tree_stages,
)
from waferline.predict.inputs import as_model
from waferline.predict.wafer.published import Published, published
from waferline.predict.wafer.shapes import mesh_layers
from waferline.workloads.spec import Transformer


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


def calibration_rows(parameter_set: str, phase: str) -> tuple[Published, ...]:
    """The published rows that a parameter set's constants of a phase were fitted on."""
    wanted = read_packaged("mesh_fits.yaml")[parameter_set][phase]["calibrated_on"]
    return tuple(row for row in published() if row.id in wanted)


def decode_design(rows: Sequence[Published], parameters: MeshParameters) -> Design:
    """Constants: stage_cycles, row_cycles, layer_cycles."""
    terms, known, cycles = [], [], []
    for row in rows:
        shape, layers, side = _layer(row)
        stages = tree_stages(side, RELEASED_GROUPS[side])
        n = decode_counts(shape, side, stages, row.input_tokens, 1, parameters, "fp16")
        terms.append([float(n.stages), float(n.rows), 1.0])
        known.append(float(parameters.hop_cycles * n.hops + n.macs + n.words / parameters.link_words_per_cycle))
        cycles.append(parameters.clock_hz / (layers * row.value))
    return Design(tuple(rows), np.array(terms), np.array(known), np.array(cycles), relative=False)


def prefill_design(rows: Sequence[Published], parameters: MeshParameters) -> Design:
    """Constants: map_base_cycles, map_element_cycles, step_cycles."""
    terms, cycles = [], []
    for row in rows:
        shape, layers, side = _layer(row)
        base = full = steps = 0.0
        for count, m, k, n in prefill_gemms(shape, row.input_tokens, 1):
            columns = count * side * float(tile(k, side) * tile(n, side))
            base, full, steps = base + columns, full + columns * float(tile(m, side)), steps + count * side
        terms.append([base, full, steps])
        cycles.append(row.input_tokens * parameters.clock_hz / (layers * row.value))
    return Design(tuple(rows), np.array(terms), np.zeros(len(rows)), np.array(cycles), relative=True)


def design(parameter_set: str, phase: str) -> Design:
    """The linear problem behind a parameter set's constants of a phase."""
    build = {"decode": decode_design, "prefill": prefill_design}[phase]
    return build(calibration_rows(parameter_set, phase), load_parameters(parameter_set))


def _layer(row: Published) -> tuple[LayerShape, int, int]:
    """Shape as the released code builds it, number of layers, and grid side of a row."""
    model = as_model(row.model)
    assert isinstance(model, Transformer)
    (layer,) = mesh_layers(model, released=True)
    return layer.shape, layer.count, row.grids[0]
