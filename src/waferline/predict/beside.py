"""The CPU beside a device: which one it is, what is left to it, and how it runs that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import anywhere
from waferline.errors import UnsupportedError
from waferline.formats import get_format
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.engine import Engine, get_engine
from waferline.predict.memory import Footprint
from waferline.predict.offload import (
    Offload,
    check_engine,
    engine_rules,
    least_placement,
    parse_offload,
    placement,
)
from waferline.predict.phase import Runner
from waferline.predict.roofline import host_link, machine_for
from waferline.remember import by_identity
from waferline.workloads.operator import Operator
from waferline.workloads.placement import NEVER, Placement, expert_layers, layer_count, place
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Transformer

Holds = Callable[[Placement], Footprint]  # the memory of a device when that much is left to its host


@dataclass(frozen=True, slots=True)
class Beside:
    """A host in one case: what was asked to be left to it, and what was assumed of it in words."""

    model: Transformer
    host: Device
    asked: Offload
    rules: Placement
    assumed: str = ""

    def check(self, parallel: Parallel) -> None:
        """Raises: UnsupportedError where the host would have to serve ranks that work on the same layer."""
        if self.asked.runs_on_host and anywhere(np.asarray(parallel.tp * parallel.dp > 1.0)):
            raise UnsupportedError(
                "a host runs the layers of one device, or of stages of layers, not of tp or dp ranks"
            )

    def away(self, holds: Holds, sequences: Floats) -> Placement:
        """What of the model the host holds and runs, where `sequences` sequences have to fit."""
        if self.asked.auto:
            return least_placement(self.model, self.rules, lambda p: holds(p).most_sequences >= sequences)
        return placement(self.asked, self.model, self.rules, holds(self.rules).weights_bytes)

    def placed(self, operators: Iterable[Operator], away: Placement) -> list[Operator]:
        """The operators where they run."""
        return [_computed_on(op, self.host) for op in place(operators, away)]

    def runner(self, engine: Engine, weights: str, away: Placement, stages: Floats) -> Runner:
        """How the host runs its part of a model with `weights`, whose kernels may be those of another engine."""
        own, borrowed = engine.running_on(self.host), read_packaged("offload.yaml")["host_kernels"].get(engine.name)
        if borrowed is not None and get_format(weights).packed:
            own = replace(own, cpu=get_engine(borrowed["engine"]).running_on(self.host).cpu)
        return Runner(machine_for(self.host, engine.kernels), own, stages, away.splits)

    def memory(self, held: Footprint) -> dict[str, Floats]:
        """Bytes of a replica, by field of the result."""
        return {
            "host_weights_bytes": held.host_weights_bytes,
            "host_kv_bytes": held.host_kv_bytes,
            "host_memory_bytes": held.host_weights_bytes + held.host_kv_bytes,
            "host_capacity_bytes": self.host.capacity_bytes,
        }

    def notes(self, away: Placement) -> tuple[str, ...]:
        """What runs where, and on which host when nobody said."""
        return (_said(away, self.model, self.host), *((self.assumed,) if self.assumed else ()))


def beside(model: Transformer, device: Device, engine: Engine, text: str | None, host: Any) -> Beside | None:
    """The host of `device` with what `text` (`--offload`) leaves to it; None where everything stays.

    Raises: UnsupportedError for an engine that does not do it or a device without a host, else as `parse_offload`.
    """
    if text is None:
        return None
    parse_offload(text, model)
    check_engine(text, engine)
    found, assumed = _host_of(device, host)
    return _known(model, device, engine, text, found, assumed)


@by_identity
def _known(model: Transformer, device: Device, engine: Engine, text: str, host: Device, assumed: str) -> Beside:
    """One record for the same question, so that what follows from it is remembered, too."""
    return Beside(model, host, parse_offload(text, model), engine_rules(engine, device), assumed)


def _host_of(device: Device, named: Any) -> tuple[Device, str]:
    """The CPU beside `device`, and what was assumed to say so.

    Raises: UnsupportedError where nothing is beside it, or the one named is no CPU.
    """
    host_link(device)
    if named is not None:
        host = load_hardware(named)
        if host.kind != "cpu":
            raise UnsupportedError(f"{host.name} is no CPU: it cannot be the host of {device.name}")
        return host, ""
    for row in read_packaged("offload.yaml")["hosts"].values():
        if row.get("group", device.group) == device.group and any(n in device.name for n in row.get("names", [""])):
            host = load_hardware(row["host"])
            why = row.get("reason")
            return host, f"host {host.name}: assumed, {why}; --host changes it" if why else ""
    raise UnsupportedError(f"nobody says which CPU is beside {device.name}", hint="name it with --host")


def _computed_on(op: Operator, host: Device) -> Operator:
    """An operator of the host in arithmetic that it has: 16 bits where it lacks the device's."""
    if op.place != "host":
        return op
    try:
        host.arithmetic(get_format(op.activations).arithmetic)
    except UnsupportedError:
        return replace(op, activations="bf16")
    return op


def _said(p: Placement, model: Transformer, host: Device) -> str:
    """What runs where, in words; of many points the range."""
    layers, experts = layer_count(model), expert_layers(model)
    parts = [
        _counted(p.layers, layers, "layers"),
        _counted(p.experts, experts, "layers' experts") if experts else "",
        "the cache and attention" if p.cache else "",
        "the output" if p.head else "",
    ]
    runs = [part for part in parts if part]
    text = f"{host.name} holds and runs {', '.join(runs)}" if runs else ""
    if runs and p.copy_tokens < NEVER:
        text += f"; passes of {p.copy_tokens:g} rows and more copy its weights to the device, {p.piece_tokens:g} tokens at a time"
    if np.any(np.asarray(p.streamed) > 0.0):
        share = float(np.max(p.streamed))
        text = f"{host.name} holds {share:.0%} of the weights, which the device reads over its link".replace("%", " %")
    return f"offload: {text or 'nothing leaves the device'}"


def _counted(share: Floats, of: int, what: str) -> str:
    counts = np.unique(np.rint(np.asarray(share) * of))
    if not counts.any():
        return ""
    span = f"{counts[0]:g}" if len(counts) == 1 else f"{counts[0]:g} to {counts[-1]:g}"
    return f"{span} of {of} {what}"
