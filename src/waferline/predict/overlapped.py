"""Engines that schedule a step while the one before runs: what their steps take (`catalog/overlapped.yaml`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from waferline.catalog.yaml_file import read_packaged
from waferline.machines.device import Device
from waferline.predict.engine import HOST_SEQUENCES, Engine, earlier, family_of

# What a hidden host no longer adds, and kernels as they were measured, where the file names nothing else: whatever else the
# constants of the engine that waits for its host are made of.
_HIDDEN = {
    "step_s": 0.0,
    "kernel_s": 0.0,
    "layer_s": 0.0,
    "expert_layer_s": 0.0,
    "sequence_s": 0.0,
    "decode_scale": 1.0,
}


@dataclass(frozen=True, slots=True)
class StepConstants:
    """An engine with the constants of its steps. moe_scale: experts over the measured kernels; host_sequences: of a batch, those
    whose host work a step waits for; infinite where that passes beside the device."""

    engine: Engine
    moe_scale: float = 1.0
    host_sequences: float = HOST_SEQUENCES


def step_constants(engine: Engine, device: Device, *, ahead: bool) -> StepConstants:
    """Those of `engine` on a device; `ahead`: it schedules the next step while one runs."""
    usual = engine.running_on(device)
    row = read_packaged("overlapped.yaml")["engines"].get(engine.name)
    if not ahead or row is None or row["machines"] != family_of(device):
        return StepConstants(usual)
    fitted: dict[str, Any] = _HIDDEN | row["constants"]
    return StepConstants(replace(usual, **fitted), float(row["moe_scale"].get(device.architecture, 1.0)), float("inf"))


def overlaps(engine: str, version: str) -> bool | None:
    """Whether a version schedules ahead by default; None where that is not known of the engine."""
    row = read_packaged("overlapped.yaml")["engines"].get(engine)
    return None if row is None else not earlier(version, str(row["since"]))
