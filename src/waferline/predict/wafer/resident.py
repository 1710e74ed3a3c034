"""`WaferResidentModel`: weights in the SRAM of one or more wafers, layers in square regions, one region at a time.

A prefill runs as MeshGEMMs and a decode step as MeshGEMVs with K-tree all-reduces (WaferLLM, OSDI'25); each has a grid
of its own, chosen by search under the memory limit. A single request walks through all regions, so its rate does not
grow with their number; with many requests the regions work as a pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import DoesNotFitError, InvalidInputError
from waferline.machines.mesh import MeshParameters, check_grid
from waferline.machines.mesh_costs.fitted import (
    RELEASED_GROUPS,
    balanced_groups,
    best_stages,
    fits_of,
    price_list,
    tree_stages,
)
from waferline.predict.blocks import Values, over_blocks
from waferline.predict.operator_row import OperatorRow
from waferline.predict.result import Field, GenerationResult, WhenRead, merged_sources
from waferline.predict.wafer.case import Case, PhaseAt, extra_row, make_case
from waferline.predict.wafer.grids import every_side, nearest_fitting, survey
from waferline.predict.wafer.kv import capacity_tokens
from waferline.predict.wafer.placement import COMPUTE_FORMAT, attention_of
from waferline.workloads.scenario import common_shape, whole

Counting = Literal["model", "released-code"]

NOT_MODELLED = (
    "speculative decoding, which raises the rate of one request above one pass per token",
    "a prompt cut into chunks that fill the pipeline of regions during prefill",
    "per-head reductions: scores are reduced as one head, an upper bound",
    "host and network time around the wafer",
    "a layer cut over several regions or wafers, and regions that are not square",
    "defective cores and routes around them",
)


class WaferResidentResult(GenerationResult):
    """What `WaferResidentModel.solve` answers. Every field broadcasts; scenarios that do not fit have no times.

    `ttft` includes the re-layout to the decode grid, and `throughput` counts all regions of all wafers as a pipeline.
    """

    bottleneck = Field("bottleneck", "What takes most of a decode step: link (mesh, hand-off) or compute")
    itl_low = Field("itl_low_s", "Least `itl` that the calibration rows allow (a range, not a probability)")
    itl_high = Field("itl_high_s", "Largest `itl` that the calibration rows allow")
    ttft_low = Field("ttft_low_s", "Least `ttft` that the calibration rows allow")
    ttft_high = Field("ttft_high_s", "Largest `ttft` that they allow; NaN where no prefill was ever timed")
    prefill_rate = Field("prefill_tokens_per_s", "Prompt tokens per second of one batch")
    request_rate = Field("request_tokens_per_s", "Output tokens per second of one sequence over the whole request")
    systems = Field("systems", "Wafers that hold the model")
    prefill_grid = Field("prefill_grid", "Side of a prefill region, in cores")
    decode_grid = Field("decode_grid", "Side of a decode region, in cores")
    groups = Field("groups", "Groups of the two-phase all-reduce while decoding")
    regions = Field("regions", "Decode regions that hold layers, all wafers")
    sram_utilization = Field("sram_utilization", "Share of the fullest core's SRAM used in decode, code left out")
    kv_capacity = Field("kv_capacity_tokens", "Tokens per sequence that fit with the shift policy")
    kv_capacity_concat = Field("kv_capacity_concat_tokens", "Tokens per sequence that fit with the concat policy")


@dataclass(frozen=True, slots=True)
class WaferResidentModel:
    """Closed-form inference with all weights in wafer SRAM."""

    def solve(
        self,
        model: Any,
        hardware: Any,
        seq_len: Any,
        batch_size: Any = 1,
        precision: str = "fp16",
        *,
        output_len: Any = 0,
        prefill_grid: Any = "auto",
        decode_grid: Any = "auto",
        groups: Any = "auto",
        levels: int = 2,
        systems: Any = "auto",
        counting: Counting = "model",
        parameters: MeshParameters | str | None = None,
    ) -> WaferResidentResult:
        """One batch of `batch_size` requests with `seq_len` prompt and `output_len` output tokens (mean context).

        `prefill_grid` and `decode_grid` are sides of square regions; `groups` of the two-phase tree or `levels` (K) of
        a balanced one; `systems` the wafers at hand (auto: the fewest that hold the model). `counting="released-code"`
        reproduces how the WaferLLM code reports: one head, padded widths, one layer times the layer count, no head.
        Weights narrower than 16 bits save SRAM and are widened on the core: they do not compute faster.
        Numbers broadcast. A grid chosen by search costs some 700 evaluations per scenario.
        Raises: InvalidInputError (grid larger than the wafer), DoesNotFitError (no scenario fits, naming the core-level
        limit), UnsupportedError (not a wafer, or a layer kind the mapping does not cover), UnknownNameError.
        """
        case = make_case(model, hardware, precision, counting, parameters)
        a = {
            "seq_len": np.asarray(whole("seq_len", seq_len)),
            "batch_size": np.asarray(whole("batch_size", batch_size)),
            "output_len": np.asarray(whole("output_len", output_len, least=0)),
        }
        given: dict[str, Any] = {"prefill_grid": prefill_grid, "decode_grid": decode_grid, "systems": systems}
        numbers = {k: np.asarray(whole(k, v)) for k, v in given.items() if not _is_auto(k, v)}
        for key in numbers.keys() - {"systems"}:
            check_grid(case.parameters, int(numbers[key].max()), int(numbers[key].max()))
        shape = common_shape({**a, **numbers})
        a["context"] = a["seq_len"] + a["output_len"] / 2
        tree = _Tree(groups, levels)
        values = over_blocks({**a, **numbers}, lambda piece: _solve(case, piece, tree)[0])
        if not np.any(values["feasible"]):
            first = {k: np.ravel(v)[0] for k, v in {**a, **numbers}.items()}
            raise _does_not_fit(case, first, *_solve(case, first, tree))
        return WaferResidentResult(
            values=values,
            coords={k: v for k, v in {**a, **numbers}.items() if np.size(v) > 1 and k != "context"},
            about={
                "model": case.model.name,
                "hardware": case.device.name,
                "strategy": "wafer-resident",
                "precision": case.precision.label(),
                "parameters": case.parameters.name,
                "counting": counting,
            },
            operators=WhenRead(lambda: _rows(case, *_solve(case, {**a, **numbers}, tree)) if not shape else ()),
            sources=merged_sources(case.model.sources, case.device.citations),
            notes=_notes(case),
            not_modelled=NOT_MODELLED,
        )


def _is_auto(name: str, value: Any) -> bool:
    if isinstance(value, str) and value != "auto":
        raise InvalidInputError(f"{name} is a number or 'auto', got {value!r}")
    return isinstance(value, str)


@dataclass(frozen=True, slots=True)
class _Tree:
    """The all-reduce as asked for: a group count or "auto", and K."""

    groups: Any
    levels: int

    def stages(self, grid: FloatArray, released: bool) -> tuple[FloatArray, FloatArray]:
        """Software stages per all-reduce, and the group count (NaN where the tree is not two-phase)."""
        if not _is_auto("groups", self.groups):
            count = np.asarray(whole("groups", self.groups))
            if np.any(count > grid):
                raise InvalidInputError(f"{count.max():g} groups on a line of {np.min(grid):g} cores", where="groups")
            return tree_stages(grid, count), count
        count = balanced_groups(grid)
        if released:  # the shipped configuration where there is one
            for side, shipped in RELEASED_GROUPS.items():
                count = np.where(grid == side, float(shipped), count)
            return tree_stages(grid, count), count
        return best_stages(grid, self.levels), count if self.levels == 2 else np.full(np.shape(grid), np.nan)


def _solve(case: Case, a: Mapping[str, FloatArray], tree: _Tree) -> tuple[Values, PhaseAt, PhaseAt]:
    """All values of one piece of scenarios, and the two phases they come from."""
    sides, wafers = _choose(case, a)
    stages, groups = tree.stages(sides["decode_grid"], case.released)
    prefill = case.prefill(sides["prefill_grid"], a["seq_len"], a["batch_size"])
    decode = case.decode(sides["decode_grid"], a["context"], a["batch_size"], stages)
    if wafers is None:
        wafers = np.maximum(prefill.placement.systems, decode.placement.systems)
    values = _values(case, a, sides, wafers, prefill, decode)
    p = case.parameters
    others = [
        case.decode(
            sides["decode_grid"], a["context"], a["batch_size"], stages, price_list(p, COMPUTE_FORMAT, i)
        ).time_s
        for i in range(len(fits_of(p.name)["decode"]["alternatives"]))
    ]
    together = np.where(np.isfinite(wafers), wafers, 1.0)  # the bound has all wafers at work at once
    step, prompt = (case.pass_light_s(phase.stack) / together for phase in (decode, prefill))
    light = {"light_itl_s": step, "light_tpot_s": step, "light_ttft_s": prompt}
    return {**values, **light, **_ranges(case, values, others), "groups": groups}, prefill, decode


def _ranges(case: Case, values: Values, others: list[FloatArray]) -> Values:
    """Times under every set of constants that the calibration rows allow, widened by their left-out error."""
    fits, itl, ttft = fits_of(case.parameters.name), values["itl_s"], values["ttft_s"]
    error = float(fits["decode"]["left_out_error"])
    times = [itl, *(np.where(np.isnan(itl), np.nan, other) for other in others)]
    prompt_error = float(fits["prefill"]["left_out_error"]) if fits["prefill"] else np.nan  # nobody timed a prompt
    return {
        "itl_low_s": np.minimum.reduce(times) / (1 + error),
        "itl_high_s": np.maximum.reduce(times) * (1 + error),
        "ttft_low_s": ttft / (1 + np.nan_to_num(prompt_error)),
        "ttft_high_s": ttft * (1 + prompt_error),
    }


def _choose(case: Case, a: Mapping[str, FloatArray]) -> tuple[dict[str, FloatArray], FloatArray | None]:
    """Sides of both grids and the wafers in use, per scenario; None for wafers that follow from grids that are given."""
    if {"prefill_grid", "decode_grid"} <= a.keys():
        return {key: a[key] for key in ("prefill_grid", "decode_grid")}, a.get("systems")
    keys = {"prefill_grid": ("seq_len", True), "decode_grid": ("context", False)}
    searched, needs, sides = {}, [], {}
    for key, (length, is_prefill) in keys.items():
        if key in a:
            sides[key] = a[key]
            needs.append(case.place(a[key], a[length], a["batch_size"], prefill=is_prefill).systems)
            continue
        tokens, batch = np.broadcast_arrays(a[length], a["batch_size"])
        found = survey(case, every_side(case), tokens.ravel(), batch.ravel(), prefill=is_prefill)
        searched[key] = (found, tokens.shape)
        needs.append(found.fewest().reshape(tokens.shape))
    needed = np.maximum(needs[0], needs[1])
    wafers = a.get("systems", needed)
    for key, (found, own) in searched.items():
        limit = np.broadcast_to(wafers, np.broadcast_shapes(np.shape(wafers), own))
        if limit.shape != own:  # wafers vary where lengths do not: search again, scenario by scenario
            length, is_prefill = keys[key]
            tokens, batch, limit = np.broadcast_arrays(a[length], a["batch_size"], wafers)
            found = survey(case, found.sides, tokens.ravel(), batch.ravel(), prefill=is_prefill)
        sides[key] = found.fastest(limit.ravel()).reshape(limit.shape)
    return sides, np.asarray(wafers, dtype=np.float64)


def _values(
    case: Case,
    a: Mapping[str, FloatArray],
    sides: dict[str, FloatArray],
    wafers: FloatArray,
    prefill: PhaseAt,
    decode: PhaseAt,
) -> Values:
    needed = np.maximum(prefill.placement.systems, decode.placement.systems)
    fits = np.isfinite(needed) & (needed <= wafers) | case.released
    transition = case.transition_s(
        sides["prefill_grid"], sides["decode_grid"], decode.stack, a["seq_len"], a["batch_size"]
    )
    ttft, itl = prefill.time_s + transition, decode.time_s
    each = decode.placement.layers_per_region
    free = decode.placement.free_bytes
    widest = max(attention_of(x).kv_heads * attention_of(x).head_dim for x in decode.stack[:-1])
    request = ttft + a["output_len"] * itl
    ok = np.where(fits, 1.0, np.nan)
    capacity = {
        name: capacity_tokens(free / a["batch_size"], widest, each, sides["decode_grid"], policy=policy)  # type: ignore[arg-type]
        for name, policy in (("kv_capacity_tokens", "shift"), ("kv_capacity_concat_tokens", "concat"))
    }
    return {
        "feasible": np.asarray(fits),
        "devices": np.where(np.isfinite(needed), wafers, np.nan),
        "systems": np.where(np.isfinite(needed), wafers, np.nan),
        "prefill_grid": sides["prefill_grid"],
        "decode_grid": sides["decode_grid"],
        "regions": decode.placement.regions,
        "layers_per_region": each,
        "sram_utilization": decode.placement.sram_utilization,
        "ttft_s": ok * ttft,
        "prefill_s": ok * prefill.time_s,
        "transition_s": ok * transition,
        "itl_s": ok * itl,
        "tpot_s": ok * itl,
        "bottleneck": np.where(decode.communication_s + decode.hand_off_s >= itl / 2, "link", "compute"),
        "hand_off_s": ok * decode.hand_off_s,
        "communication_share": ok * decode.communication_s / itl,
        "prefill_tokens_per_s": ok * a["batch_size"] * a["seq_len"] / prefill.time_s,
        "user_tokens_per_s": ok / itl,
        "throughput_tokens_per_s": ok * a["batch_size"] * decode.passes_per_s,
        "output_tokens_per_s": ok * a["batch_size"] / itl,
        "in_flight_batches": decode.in_flight,
        "request_s": ok * request,
        "request_tokens_per_s": ok * a["output_len"] / request,
        "energy_j_per_token": ok * wafers * case.parameters.power_w * itl / a["batch_size"],
        **capacity,
    }


def _does_not_fit(
    case: Case, a: Mapping[str, FloatArray], values: Values, prefill: PhaseAt, decode: PhaseAt
) -> DoesNotFitError:
    """Which core-level limit the first scenario breaks, and the nearest grid that does not break it."""

    def first(x: Any) -> float:
        return float(np.ravel(x)[0])

    wafers, p, name = first(a.get("systems", np.inf)), case.parameters, case.model.name
    lengths = {True: a["seq_len"], False: a["context"]}  # one grid for both phases has to hold both
    together = np.all(values["prefill_grid"] == values["decode_grid"])
    for phase, at in (("prefill", prefill), ("decode", decode)):
        side, core = first(values[f"{phase}_grid"]), at.placement.core
        needed, given = first(at.placement.systems), first(values["systems"])
        held = lengths if together else {phase == "prefill": lengths[phase == "prefill"]}
        near = nearest_fitting(case, side, wafers, a["batch_size"], held)
        hint = f"{near}x{near} fits" if near else "more wafers, a narrower format, or a smaller batch or context"
        if not np.isfinite(needed):
            layer, kv, buffers, head = (first(x) for x in (core.weights, core.kv, core.buffers, core.head))
            return DoesNotFitError(
                f"{name} {phase} on a {side:.0f}x{side:.0f} grid: a core needs {buffers + max(layer + kv, head):,.0f} B "
                f"(one layer's weights {layer:,.0f}, KV {kv:,.0f}, buffers {buffers:,.0f}, head {head:,.0f}) and has "
                f"{core.room:,.0f} B of its {p.sram_bytes:,} B SRAM beside code",
                hint=hint,
            )
        if needed > given:
            return DoesNotFitError(
                f"{name} {phase} on {side:.0f}x{side:.0f} regions needs {needed:.0f} wafers, {given:.0f} given: "
                f"{first(core.layers):.0f} layers fit the {core.room:,.0f} B of a core",
                hint=hint,
            )
    return DoesNotFitError(f"{name} does not fit")


def _rows(case: Case, values: Values, prefill: PhaseAt, decode: PhaseAt) -> tuple[OperatorRow, ...]:
    """Where the time of both phases goes."""
    re_layout = extra_row("prefill", "re-layout for decode", values["transition_s"], "link", "spec only")
    return (*case.rows("prefill", prefill), re_layout, *case.rows("decode", decode))


def _notes(case: Case) -> tuple[str, ...]:
    fits = fits_of(case.parameters.name)
    low, high = fits["decode"]["grids"]
    lines = [
        f"mesh parameters: {case.parameters.description}",
        f"decode constants were fitted on grids of side {low} to {high}; other sides extrapolate",
    ]
    if fits["prefill"] is None:
        lines.append("no prefill was timed with these parameters: the vector unit is taken as ideal, a lower bound")
    return (*lines, "ranges span the constants that the calibration rows allow; they are no probabilities")
