"""Saying why: the core-level limit that a placement breaks, where the time goes, and what the constants rest on."""

from __future__ import annotations

from typing import Any

import numpy as np

from waferline.machines.mesh_costs.layer_fits import fitted_grids, prefill_fit
from waferline.predict.blocks import Values
from waferline.predict.result import OperatorRow
from waferline.predict.wafer.case import Case, PhaseAt


def why_not(case: Case, values: Values, prefill: PhaseAt, decode: PhaseAt) -> str:
    """One line: which core-level limit the first scenario breaks."""

    def first(x: Any) -> float:
        return float(np.ravel(x)[0])

    given = first(values["systems"])
    for name, at in (("prefill", prefill), ("decode", decode)):
        side, core = first(values[f"{name}_grid"]), at.placement.core
        layer, kv, buffers, head = (first(x) for x in (core.weights, core.kv, core.buffers, core.head))
        if not np.isfinite(first(at.placement.systems)):
            need = buffers + max(layer + kv, head)
            return (
                f"{case.model.name} {name} on a {side:.0f}x{side:.0f} grid: a core needs {need:,.0f} B (one layer's "
                f"weights {layer:,.0f}, KV {kv:,.0f}, buffers {buffers:,.0f}, head {head:,.0f}) and has "
                f"{core.room:,.0f} B of its {case.parameters.sram_bytes:,} B SRAM beside code"
            )
        if first(at.placement.systems) > given:
            return (
                f"{case.model.name} {name} on {side:.0f}x{side:.0f} regions needs {first(at.placement.systems):.0f} "
                f"wafers, {given:.0f} given: {first(core.layers):.0f} layers fit the {core.room:,.0f} B of a core"
            )
    return f"{case.model.name} does not fit"


def operator_rows(case: Case, values: Values, prefill: PhaseAt, decode: PhaseAt) -> tuple[OperatorRow, ...]:
    """Where the time goes: mesh communication, local compute, head and hand-off of both phases."""
    rows = []
    for name, at in (("prefill", prefill), ("decode", decode)):
        parts = {
            "layers.compute": (at.layers_s - at.communication_s, "compute"),
            "layers.communication": (at.communication_s, "link"),
            "head": (at.head_s, "compute"),
            "hand_off": (at.hand_off_s, "link"),
        }
        if name == "prefill":
            parts["re-layout for decode"] = (values["transition_s"], "link")
        for part, (seconds, bound) in parts.items():
            rows.append(
                OperatorRow(
                    phase=name,
                    name=part,
                    kind="mesh",
                    count=np.asarray(1.0),
                    time_s=np.asarray(seconds),
                    light_s=np.asarray(np.nan),
                    flops=np.asarray(np.nan),
                    bytes=np.asarray(np.nan),
                    bound=np.asarray(bound),
                    tier="calibrated" if prefill_fit(case.parameters.name) or name == "decode" else "spec only",
                )
            )
    return tuple(rows)


def notes(case: Case) -> tuple[str, ...]:
    lines = [f"mesh parameters: {case.parameters.description}"]
    low, high = fitted_grids(case.parameters.name)
    lines.append(f"decode constants were fitted on grids of side {low} to {high}; other sides extrapolate")
    if prefill_fit(case.parameters.name) is None:
        lines.append("no prefill was timed with these parameters: the vector unit is taken as ideal, a lower bound")
    lines.append("ranges span the constants that the calibration rows allow; they are no probabilities")
    return tuple(lines)
