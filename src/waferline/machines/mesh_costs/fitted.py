"""The price list of the measured kernels: matrix products and all-reduces on a square region, fitted on published layers.

The counts (hops, software stages, multiply-accumulates, rows, words) follow from the mapping of WaferLLM (OSDI'25), sections 5
and 6; what each costs comes from a mesh parameter set and from `catalog/mesh_fits.yaml`. Sizes are padded up to the grid, as
the released WaferLLM configurations do. Every argument broadcasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.catalog.yaml_file import read_packaged
from waferline.errors import InvalidInputError, UnsupportedError
from waferline.machines.mesh import MeshParameters
from waferline.machines.mesh_costs.gemv import tile_gemv_cycles

# Group counts of the released decode configurations, by grid side.
RELEASED_GROUPS: Mapping[int, int] = {
    240: 15, 256: 16, 300: 15, 360: 18, 420: 20, 480: 20, 512: 32, 540: 20, 600: 24, 660: 22, 720: 24,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """Cycles of something on a region, computing and communicating; they add up to `total`."""

    compute: FloatArray
    communication: FloatArray

    @property
    def total(self) -> FloatArray:
        return self.compute + self.communication

    def __add__(self, other: Price) -> Price:
        return Price(self.compute + other.compute, self.communication + other.communication)

    def times(self, count: Any) -> Price:
        return Price(count * self.compute, count * self.communication)


NOTHING = Price(np.zeros(()), np.zeros(()))


@dataclass(frozen=True, slots=True)
class PriceList:
    """What the kernels of one cohort cost. `row`: of a local GEMV, with norms, softmax and activation; `layer`: fixed, per layer;
    `map_base` and `map_element`: the local GEMM per column of C, and per row in it; `step`: fixed, per step of a GEMM."""

    parameters: MeshParameters
    number_format: str
    row: float
    layer: float
    map_base: float
    map_element: float
    step: float

    @property
    def values_per_cycle(self) -> float:
        """Values that cross one link in a cycle."""
        return self.parameters.elements_per_word(self.number_format) * self.parameters.link_words_per_cycle

    def gemv(self, side: Any, rows: Any, k: Any, n: Any) -> Price:
        """`rows` vectors times W[k, n] that stays in place: one GEMV after another, nothing reduced yet."""
        per_row = np.ceil(tile(n, side) / self.parameters.simd(self.number_format)) + self.row
        return Price(rows * tile(k, side) * per_row, np.zeros(()))

    def all_reduce(self, side: Any, stages: Any, values: Any) -> Price:
        """One all-reduce of `values` per core over a line: hops, `stages` software stages, one payload."""
        p = self.parameters
        steps = p.hop_cycles * np.asarray(side, dtype=np.float64) + p.stage_cycles * np.asarray(stages)
        return Price(np.zeros(()), steps + values / self.values_per_cycle)

    def gemm(self, side: Any, m: Any, k: Any, n: Any) -> Price:
        """MeshGEMM: one step per core of a side, each the slower of local product and two-hop shift."""
        mt, kt, nt = tile(m, side), tile(k, side), tile(n, side)
        local = kt * nt * (self.map_base + self.map_element * mt)
        shift = 2 * self.parameters.hop_cycles + np.maximum(mt, nt) * kt / self.values_per_cycle
        return Price(side * local, side * (self.step + np.maximum(shift - local, 0.0)))


def price_list(parameters: MeshParameters, number_format: str = "fp16", alternative: int | None = None) -> PriceList:
    """The price list of a cohort; `alternative` takes other decode constants that its calibration rows allow as well.

    Where no prefill was timed the vector unit is taken as ideal: a lower bound.
    Raises: UnsupportedError when nobody has timed a decode layer in that cohort.
    """
    fits = fits_of(parameters.name)
    decode, prefill = fits["decode"], fits["prefill"]
    if alternative is not None:
        decode = decode["alternatives"][alternative]
    ideal = parameters.map_vector_cycles / parameters.simd(number_format)
    gemm = (
        tuple(float(prefill[key]) for key in ("map_base_cycles", "map_element_cycles", "step_cycles"))
        if prefill
        else (parameters.map_base_cycles, ideal, parameters.step_cycles)
    )
    return PriceList(parameters, number_format, float(decode["row_cycles"]), float(decode["layer_cycles"]), *gemm)


def fits_of(parameter_set: str) -> Mapping[str, Any]:
    """The entry of a parameter set in `mesh_fits.yaml`: `decode`, and `prefill` or None.

    Raises: UnsupportedError when nobody has timed a decode layer in that cohort.
    """
    entries = read_packaged("mesh_fits.yaml")
    if parameter_set not in entries:
        raise UnsupportedError(
            f"mesh parameter set '{parameter_set}' has no measured decode layer",
            hint=f"sets that have one: {', '.join(entries)}",
        )
    return dict(entries[parameter_set])


def tile(size: Any, grid: Any) -> FloatArray:
    """Elements of a dimension that one core holds, padded up."""
    return np.ceil(np.asarray(size, dtype=np.float64) / grid)


def tree_stages(grid: Any, groups: Any) -> FloatArray:
    """Software stages of a two-phase all-reduce with roots in the middle: g/2 inside a group, G/2 over the groups."""
    groups = np.asarray(groups, dtype=np.float64)
    return (np.ceil(grid / groups) + groups) / 2


def balanced_groups(grid: Any) -> FloatArray:
    """The group count with the fewest software stages in a two-phase tree: √P, rounded the better way."""
    root = np.sqrt(np.asarray(grid, dtype=np.float64))
    low, high = np.maximum(np.floor(root), 1.0), np.ceil(root)
    return np.where(tree_stages(grid, low) <= tree_stages(grid, high), low, high)


def best_stages(grid: Any, levels: int) -> FloatArray:
    """Software stages of the best K-tree with `levels` = K: about K P^(1/K) / 2.

    Raises: InvalidInputError for K outside 1 to 3, which is all the mapping provides for.
    """
    grid = np.asarray(grid, dtype=np.float64)
    if levels == 1:
        return np.ceil(grid / 2)
    if levels == 2:
        return tree_stages(grid, balanced_groups(grid))
    if levels == 3:
        first = np.maximum(np.rint(np.cbrt(grid)), 1.0)
        rest = np.ceil(grid / first)
        return first / 2 + tree_stages(rest, balanced_groups(rest))
    raise InvalidInputError(f"a tree of {levels} levels", where="levels", hint="1 (chain), 2 or 3")


def lone_gemv_cycles(parameters: MeshParameters, rows: Any, columns: Any, grid: Any, groups: Any) -> FloatArray:
    """Cycles of one fp16 MeshGEMV, a[rows] B[rows, columns], its all-reduce counted as a decode layer counts its ten.

    The fitted stage cost holds for this count (hops, stages, one payload); the router-level form of `gemv_cycles` adds
    ramps and a payload per phase on top of it.
    """
    p, side = parameters, np.asarray(grid, dtype=np.float64)
    width = tile(columns, side)
    local = tile_gemv_cycles(p, tile(rows, side), width)
    words = width / p.elements_per_word("fp16") / p.link_words_per_cycle
    return np.asarray(p.hop_cycles * side + p.stage_cycles * tree_stages(side, groups) + words + local)
