"""The grid autotuner: side, tree depth K and group size of a phase, under the four limits of the PLMR model.

Parallelism: the side fits the wafer. Latency: hops and software stages of one step, minimised. Memory: bytes per core.
Routing: colours per core. Every side and every K is evaluated; nothing is sampled (WaferLLM, OSDI'25, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.errors import DoesNotFitError, InvalidInputError
from waferline.machines.mesh import ELEMENT_BYTES, MeshParameters
from waferline.machines.mesh_costs.collectives import reduction_colours
from waferline.machines.mesh_costs.fitted import balanced_groups, best_stages, lone_gemv_cycles, tile
from waferline.predict.result import Field, Result
from waferline.predict.wafer.case import Case, PhaseAt, make_case
from waferline.predict.wafer.grids import SMALLEST_SIDE, every_side
from waferline.predict.wafer.price import reductions
from waferline.workloads.scenario import common_shape, whole

TunedPhase = Literal["prefill", "decode"]
Objective = Literal["latency", "throughput"]

LEVELS = (1, 2, 3)  # K of the tree: chain, two-phase, three-phase
MESH_GEMM_COLOURS = 12  # 3 per axis for the two-hop ring, 6 to align A in both directions (released MeshGEMM)
_SIDES_AT_ONCE = 64  # scenarios per pass over all sides


class TuningResult(Result):
    """The best configuration per scenario, and how far it is inside each limit."""

    grid = Field("grid", "Side of the square region")
    levels = Field("levels", "K of the all-reduce tree (decode)")
    groups = Field("groups", "Groups of the first level; NaN for prefill")
    group_size = Field("group_size", "Cores per group")
    time = Field("time_s", "One pass of the phase")
    systems = Field("systems", "Wafers needed")
    throughput = Field("throughput_tokens_per_s", "Tokens per second of all regions of all wafers as a pipeline")
    colours = Field("colours", "Routing colours per core")
    core_bytes = Field("core_bytes", "SRAM per core in use, code included")
    stages = Field("stages", "Software stages on the critical path of one layer")
    hops = Field("hops", "Hops on the critical path of one layer's all-reduces")


@dataclass(frozen=True, slots=True)
class _Search:
    """Times and limits over (scenario, side) for one K."""

    time_s: FloatArray
    rate: FloatArray
    allowed: npt.NDArray[np.bool_]
    at: PhaseAt


def tune(
    model: Any,
    hardware: Any,
    seq_len: Any,
    batch_size: Any = 1,
    precision: str = "fp16",
    *,
    phase: TunedPhase = "decode",
    systems: Any = "auto",
    objective: Objective = "latency",
    counting: str = "model",
    parameters: MeshParameters | str | None = None,
) -> TuningResult:
    """The grid, K and group size that make `phase` fastest (or serve most tokens), for scalar or array lengths.

    `systems` is the most wafers to use (auto: the fewest on which any side works).
    Raises: DoesNotFitError when no side obeys the limits of any scenario, naming the limit that breaks last.
    """
    if phase not in ("prefill", "decode") or objective not in ("latency", "throughput"):
        raise InvalidInputError(
            f"phase '{phase}' or objective '{objective}'", hint="prefill, decode; latency, throughput"
        )
    case = make_case(model, hardware, precision, counting, parameters)
    a = {"seq_len": whole("seq_len", seq_len), "batch_size": whole("batch_size", batch_size)}
    limit = None if isinstance(systems, str) else whole("systems", systems)
    shape = common_shape({**a, **({} if limit is None else {"systems": limit})})
    flat = [np.broadcast_to(v, shape).ravel() for v in a.values()]
    most = None if limit is None else np.broadcast_to(limit, shape).ravel()
    parts = [
        _tune_piece(case, phase, objective, flat[0][s], flat[1][s], None if most is None else most[s])
        for s in _pieces(flat[0].size)
    ]
    values = {k: np.concatenate([p[k] for p in parts]).reshape(shape) for k in parts[0]}
    if not np.isfinite(values["time_s"]).any():
        raise DoesNotFitError(_broken_limit(case, phase, values), where=f"{case.model.name} on {case.device.name}")
    return TuningResult(
        values=values,
        coords={k: v for k, v in a.items() if np.size(v) > 1},
        about={"model": case.model.name, "hardware": case.device.name, "phase": phase, "objective": objective},
        notes=("trees of K = 1 and 3 use the constants fitted on K = 2",),
    )


def best_gemv(rows: int, columns: int, parameters: MeshParameters) -> tuple[int, float]:
    """Side and cycles of the fastest fp16 MeshGEMV of one matrix, over every side whose tiles fit a core."""
    most = min(parameters.grid_width, parameters.grid_height)
    sides = np.arange(SMALLEST_SIDE, most + 1, dtype=np.float64)
    cycles = lone_gemv_cycles(parameters, rows, columns, sides, balanced_groups(sides))
    stored = tile(rows, sides) * tile(columns, sides) * ELEMENT_BYTES["fp16"]
    best = int(np.argmin(np.where(stored <= parameters.data_bytes, cycles, np.inf)))
    if stored[best] > parameters.data_bytes:
        raise DoesNotFitError(
            f"a {rows}x{columns} fp16 matrix fits no grid: a core has {parameters.data_bytes:,} B beside code"
        )
    return int(sides[best]), float(cycles[best])


def _pieces(size: int) -> list[slice]:
    return [slice(start, start + _SIDES_AT_ONCE) for start in range(0, size, _SIDES_AT_ONCE)]


def _tune_piece(
    case: Case, phase: str, objective: str, tokens: FloatArray, batch: FloatArray, most: FloatArray | None
) -> dict[str, FloatArray]:
    sides = every_side(case)
    levels = LEVELS if phase == "decode" else (0,)
    searches = [_search(case, phase, k, sides, tokens[:, None], batch[:, None]) for k in levels]
    needed = np.min([np.where(s.allowed, s.at.placement.systems, np.inf) for s in searches], axis=0)
    limit = (needed.min(axis=-1) if most is None else most)[:, None]
    score = np.stack([_score(s, objective, limit) for s in searches])  # (K, scenario, side)
    order = np.moveaxis(score, 1, 0).reshape(tokens.size, -1)
    best = np.argmin(order, axis=-1)
    k_index, side_index = best // sides.size, best % sides.size
    ok = np.where(np.isfinite(np.take_along_axis(order, best[:, None], -1)[:, 0]), 1.0, np.nan)
    rows = np.arange(tokens.size)

    def pick(name: str) -> FloatArray:
        table = np.stack([np.broadcast_to(_figures(s, case)[name], score.shape[1:]) for s in searches])
        return np.asarray(table[k_index, rows, side_index])

    grid = sides[side_index]
    all_reduces = max(reductions(layer.operators) for layer in searches[0].at.stack[:-1])
    chosen = np.asarray(levels, dtype=np.float64)[k_index]
    stages = np.choose(k_index, [best_stages(grid, k) if k else np.zeros(grid.shape) for k in levels])
    groups = np.where(chosen == 1, 1.0, np.where(chosen == 2, balanced_groups(grid), np.rint(np.cbrt(grid) ** 2)))
    groups = np.where(chosen > 0, groups, np.nan)
    return {
        "grid": grid,
        "levels": np.where(chosen > 0, chosen, np.nan),
        "groups": groups,
        "group_size": np.ceil(grid / groups),
        "time_s": ok * pick("time_s"),
        "throughput_tokens_per_s": ok * pick("rate") * (batch if phase == "decode" else batch * tokens),
        "systems": np.where(np.isfinite(ok), pick("systems"), needed.min(axis=-1)),
        "core_bytes": pick("core_bytes"),
        "colours": np.array([_colours(phase, int(k)) for k in chosen], dtype=np.float64),
        "stages": all_reduces * stages if phase == "decode" else np.full(grid.shape, np.nan),
        "hops": all_reduces * grid if phase == "decode" else 2 * grid,
    }


def _search(case: Case, phase: str, k: int, sides: FloatArray, tokens: FloatArray, batch: FloatArray) -> _Search:
    if phase == "decode":
        at = case.decode(sides[None, :], tokens, batch, best_stages(sides, k)[None, :])
    else:
        at = case.prefill(sides[None, :], tokens, batch)
    shape = (tokens.shape[0], sides.size)
    allowed = np.broadcast_to(np.isfinite(at.placement.systems), shape) & (
        _colours(phase, k) <= case.parameters.colours
    )
    rate = np.broadcast_to(at.passes_per_s, shape)
    return _Search(np.broadcast_to(at.time_s, shape), rate, allowed, at)


def _score(s: _Search, objective: str, limit: FloatArray) -> FloatArray:
    """What to minimise; infinite outside the limits."""
    cost = s.time_s if objective == "latency" else 1.0 / s.rate
    return np.where(s.allowed & (s.at.placement.systems <= limit), cost, np.inf)


def _figures(s: _Search, case: Case) -> dict[str, FloatArray]:
    where = s.at.placement
    used = where.sram_utilization * where.core.room + case.parameters.code_bytes
    return {"time_s": s.time_s, "rate": s.rate, "systems": where.systems, "core_bytes": used}


def _colours(phase: str, k: int) -> int:
    """Colours per core: MeshGEMM's in prefill, those of a K-tree on each of both axes in decode."""
    return MESH_GEMM_COLOURS if phase == "prefill" else 2 * reduction_colours(f"ktree:{k}")


def _broken_limit(case: Case, phase: str, values: dict[str, FloatArray]) -> str:
    p = case.parameters
    colours = _colours(phase, 1)
    if colours > p.colours:
        return f"{phase} needs {colours} colours per core and the device has {p.colours}"
    need = float(np.nanmin(values["systems"]))
    if np.isfinite(need):
        return f"{phase} needs {need:.0f} wafers on its most frugal grid"
    return f"no grid up to {min(p.grid_width, p.grid_height)} leaves a layer room in the {p.data_bytes:,} B of a core"
