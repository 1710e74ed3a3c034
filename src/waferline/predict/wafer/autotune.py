"""The grid autotuner: side, tree depth K and group size of a phase, under the four limits of the PLMR model.

Parallelism: the side fits the wafer. Latency: hops and software stages of one step, minimised. Memory: bytes per core.
Routing: colours per core. Every side and every K is evaluated; nothing is sampled (WaferLLM, OSDI'25, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import DoesNotFitError, InvalidInputError
from waferline.machines.mesh import ELEMENT_BYTES, MeshParameters
from waferline.machines.mesh_costs.collectives import reduction_colours
from waferline.machines.mesh_costs.fitted import balanced_groups, best_stages, lone_gemv_cycles, tile
from waferline.predict.blocks import Values, over_blocks
from waferline.predict.result import Field, Result
from waferline.predict.wafer.case import Case, PhaseAt, make_case
from waferline.predict.wafer.grids import SMALLEST_SIDE, every_side
from waferline.predict.wafer.price import reductions
from waferline.workloads.scenario import whole

TunedPhase = Literal["prefill", "decode"]
Objective = Literal["latency", "throughput"]

LEVELS = (1, 2, 3)  # K of the tree: chain, two-phase, three-phase
MESH_GEMM_COLOURS = 12  # 3 per axis for the two-hop ring, 6 to align A in both directions (released MeshGEMM)
_SCENARIOS_AT_ONCE = 64  # per pass over all sides


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
    a = {"seq_len": np.asarray(whole("seq_len", seq_len)), "batch_size": np.asarray(whole("batch_size", batch_size))}
    if not isinstance(systems, str):
        a["systems"] = np.asarray(whole("systems", systems))
    values = over_blocks(a, lambda piece: _tuned(case, phase, objective, piece), _SCENARIOS_AT_ONCE)
    if not np.isfinite(values["time_s"]).any():
        raise DoesNotFitError(_broken_limit(case, phase, values), where=f"{case.model.name} on {case.device.name}")
    return TuningResult(
        values=values,
        coords={k: v for k, v in a.items() if np.size(v) > 1 and k != "systems"},
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


def _tuned(case: Case, phase: str, objective: str, a: Mapping[str, FloatArray]) -> Values:
    """The best side and K of each scenario: every one of both is evaluated, as (K, scenario, side)."""
    shape = np.broadcast_shapes(*(v.shape for v in a.values()))
    tokens, batch, *most = (np.broadcast_to(v, shape).ravel() for v in a.values())
    sides, t, b = every_side(case), tokens[:, None], batch[:, None]
    levels = LEVELS if phase == "decode" else (0,)
    if phase == "decode":
        tried = [case.decode(sides[None, :], t, b, best_stages(sides, k)[None, :]) for k in levels]
    else:
        tried = [case.prefill(sides[None, :], t, b)]
    colours = np.array([_colours(phase, k) for k in levels], dtype=np.float64)

    def table(figure: Callable[[PhaseAt], FloatArray]) -> FloatArray:
        return np.stack([np.broadcast_to(figure(at), (tokens.size, sides.size)) for at in tried])

    time_s, rate = table(lambda at: at.time_s), table(lambda at: at.passes_per_s)
    systems = np.where(
        colours[:, None, None] <= case.parameters.colours, table(lambda at: at.placement.systems), np.inf
    )
    needed = systems.min(axis=(0, 2))
    allowed = np.isfinite(systems) & (systems <= (most[0] if most else needed)[None, :, None])
    score = np.where(allowed, time_s if objective == "latency" else 1.0 / rate, np.inf)
    best = np.argmin(np.moveaxis(score, 1, 0).reshape(tokens.size, -1), axis=-1)
    k_index, side_index = best // sides.size, best % sides.size
    at = (k_index, np.arange(tokens.size), side_index)
    grid, chosen = sides[side_index], np.asarray(levels, dtype=np.float64)[k_index]
    ok = np.where(np.isfinite(score[at]), 1.0, np.nan)
    decodes = np.where(chosen > 0, 1.0, np.nan)
    groups = decodes * np.select([chosen == 1, chosen == 2], [1.0, balanced_groups(grid)], np.rint(np.cbrt(grid) ** 2))
    stages = np.choose(k_index, [best_stages(grid, k) if k else np.full(grid.shape, np.nan) for k in levels])
    all_reduces = max(reductions(layer.operators) for layer in tried[0].stack[:-1])
    used = table(lambda x: x.placement.sram_utilization * x.placement.core.room + case.parameters.code_bytes)
    values = {
        "grid": grid,
        "levels": decodes * chosen,
        "groups": groups,
        "group_size": np.ceil(grid / groups),
        "time_s": ok * time_s[at],
        "throughput_tokens_per_s": ok * rate[at] * (batch if phase == "decode" else batch * tokens),
        "systems": np.where(np.isfinite(ok), systems[at], needed),
        "core_bytes": used[at],
        "colours": colours[k_index],
        "stages": all_reduces * stages,
        "hops": all_reduces * grid if phase == "decode" else 2 * grid,
    }
    return {name: value.reshape(shape) for name, value in values.items()}


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
