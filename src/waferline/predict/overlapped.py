"""Engines that schedule a step while the one before runs: what their steps take (`catalog/overlapped.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from waferline.catalog.yaml_file import read_packaged
from waferline.machines.device import Device
from waferline.predict.engine import HOST_SEQUENCES, Engine, family_of
from waferline.predict.versions import earlier

OTHERS = "others"  # the key of `launch_s` for every kind that it does not name
# What a hidden host no longer adds, and kernels as they were measured, where the file names nothing else: whatever else the
# constants of the engine that waits for its host are made of.
_HIDDEN = {
    "step_s": 0.0,
    "kernel_s": 0.0,
    "layer_s": 0.0,
    "expert_layer_s": 0.0,
    "prompt_layer_s": 0.0,
    "sequence_s": 0.0,
    "decode_scale": 1.0,
    "collective_scale": 1.0,
}


@dataclass(frozen=True, slots=True)
class StepConstants:
    """An engine with the constants of its steps. moe_scale: experts over the measured kernels; host_sequences: of a batch, those
    whose host work a step waits for; infinite where that passes beside the device. collective_s: that ranks wait for one another in
    each collective, beside what it takes alone. launch_s: what the host takes to launch an operator of a kind that no graph holds
    in a step with prompts; `OTHERS`: the rest, of steps beyond graphs."""

    engine: Engine
    moe_scale: float = 1.0
    host_sequences: float = HOST_SEQUENCES
    collective_s: float = 0.0
    launch_s: Mapping[str, float] = field(default_factory=dict)


def step_constants(engine: Engine, device: Device, *, ahead: bool, version: str = "") -> StepConstants:
    """Those of `engine` on a device, of its newest version without one; `ahead`: it schedules the next step while one runs.

    What launching takes was fitted on versions that did; it holds whether they do or not.
    """
    usual = engine.running_on(device)
    row = read_packaged("overlapped.yaml")["engines"].get(engine.name)
    if row is None or row["machines"] != family_of(device):
        return StepConstants(usual)
    own = next((c for first, c in row["versions"].items() if not earlier(version, str(first))), None)
    own = own or list(row["versions"].values())[-1]
    launch_s = own.get("launch_s", {})
    if not ahead:
        return StepConstants(usual, launch_s=launch_s)
    fitted: dict[str, Any] = _HIDDEN | row["constants"] | {name: own[name] for name in ("step_s", "sequence_s")}
    scale = float(row["moe_scale"].get(device.architecture, 1.0))
    return StepConstants(replace(usual, **fitted), scale, float("inf"), own["collective_s"], launch_s)


def overlaps(engine: str, version: str) -> bool | None:
    """Whether a version schedules ahead by default; None where that is not known of the engine."""
    row = read_packaged("overlapped.yaml")["engines"].get(engine)
    return None if row is None else not earlier(version, str(row["since"]))
