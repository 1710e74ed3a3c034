"""Every way to serve a model: format × machine × degrees, priced in closed form with as many replicas as the load needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError, UnsupportedError, WaferlineError
from waferline.machines.device import Device
from waferline.predict.chosen_precision import choose_precision
from waferline.predict.degrees import check_degrees, group_sizes
from waferline.predict.engine import default_engine, get_engine
from waferline.predict.result import Result
from waferline.predict.serving import ServingModel
from waferline.traffic.slo import Goal
from waferline.workloads.spec import MixtureOfExperts, Transformer

MOST_DEVICES_A_REPLICA = 64
_RUNNING = np.unique(np.round(np.geomspace(1.0, 512.0, 40)))  # sequences of a replica that are tried
_FULL = 0.85  # of what a replica can do is asked of it: a queue in front of a full one never ends
_LOADED = {"ttft": "loaded_ttft", "tpot": "loaded_tpot", "e2e": "loaded_request"}  # what a goal is held against


@dataclass(frozen=True, slots=True)
class Load:
    """What users send, in means: requests a second, and tokens of each."""

    rate_per_s: float
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One format on one machine with degrees and replicas, and what the closed form says of it.

    running: sequences of a replica at which the goals hold; values: latencies in seconds by metric, with `_low90` and `_high90`.
    missed: goals that no load of it meets. usd_per_h: of all devices; NaN where no source has a price.
    """

    device: Device
    precision: str
    engine: str
    tp: int
    pp: int
    ep: int
    replicas: int
    running: float
    usd_per_h: float
    values: Mapping[str, float]
    missed: tuple[str, ...] = ()

    @property
    def devices(self) -> int:
        return self.tp * self.pp * self.replicas

    @property
    def order(self) -> tuple[float, ...]:
        """Cheaper first; without prices fewer devices."""
        priced = np.isfinite(self.usd_per_h)
        return (0.0 if priced else 1.0, self.usd_per_h if priced else float(self.devices), float(self.devices))

    def with_replicas(self, replicas: int) -> Candidate:
        return replace(self, replicas=replicas, usd_per_h=self.usd_per_h / self.replicas * replicas)

    def to_json(self) -> dict[str, Any]:
        return {
            "machine": self.device.name,
            "precision": self.precision,
            "engine": self.engine,
            **{name: getattr(self, name) for name in ("tp", "pp", "ep", "replicas", "devices", "usd_per_h")},
            "running_per_replica": self.running,
            "closed_form": self.values,
            "missed": self.missed,
        }


def candidates(
    model: Transformer,
    devices: Sequence[Device],
    precisions: Sequence[str | None],
    engine: str | None,
    load: Load,
    goals: Sequence[Goal],
) -> tuple[list[Candidate], dict[str, str]]:
    """(every candidate, best first; why a machine cannot take a format)."""
    found: list[Candidate] = []
    refused: dict[str, str] = {}
    for device in devices:
        for asked in precisions:
            try:
                here = list(_of_machine(model, device, asked, engine, load, goals))
            except (UnsupportedError, InvalidInputError) as error:
                refused[f"{device.name}, {asked or 'as shipped'}"] = str(error)
                continue
            if not here:
                refused[f"{device.name}, {asked or 'as shipped'}"] = "no group of it holds the model"
            found += here
    return sorted(found, key=lambda c: c.order), refused


def _of_machine(
    model: Transformer, device: Device, asked: str | None, engine: str | None, load: Load, goals: Sequence[Goal]
) -> Iterator[Candidate]:
    precision = str(choose_precision(model, device, asked, None)[0])
    runner = default_engine(device, model) if engine is None else get_engine(engine)
    experts = any(isinstance(b.ffn, MixtureOfExperts) for b in model.blocks)
    for tp, pp in group_sizes(model, device, runner):
        if tp * pp > MOST_DEVICES_A_REPLICA:
            break
        for ep in (1, tp) if experts and tp > 1 else (1,):
            try:
                degrees = {"tp": float(tp), "pp": float(pp), "ep": float(ep), "dp": 1.0}
                check_degrees(model, device, runner, degrees)
                result = ServingModel().solve(
                    model, device, load.prompt, _RUNNING, precision,
                    output_len=load.output, tp=tp, pp=pp, ep=ep, engine=runner.name, load="closed",
                )  # fmt: skip
            except WaferlineError:
                if ep > 1:
                    continue
                raise
            chosen = _sized(result, device, load, goals)
            if chosen is not None:
                yield Candidate(
                    device, precision if asked is None else asked, runner.name, tp, pp, ep, *chosen
                )  # fmt: skip


def _sized(
    result: Result, device: Device, load: Load, goals: Sequence[Goal]
) -> tuple[int, float, float, dict[str, float], tuple[str, ...]] | None:
    """(replicas, sequences of each, dollars an hour, latencies, goals missed) of a group of devices; None where nothing fits.

    The most sequences at which every goal holds are as many as a replica is given; where none does, one sequence shows it.
    """
    shape = _RUNNING.shape
    feasible = np.broadcast_to(result["feasible"], shape)
    if not feasible[0]:
        return None
    times = {goal.metric: np.broadcast_to(result[f"{_LOADED[goal.metric]}_s"], shape) for goal in goals}
    held: FloatArray = feasible & np.all([times[g.metric] <= g.limit_s for g in goals], axis=0)
    at = int(np.flatnonzero(held)[-1]) if held.any() else 0
    missed = tuple(g.name for g in goals if times[g.metric][at] > g.limit_s)
    rate = float(np.broadcast_to(result["loaded_throughput_tokens_per_s"], shape)[at]) / max(load.output, 1)
    replicas = max(int(np.ceil(load.rate_per_s / (rate * _FULL))), 1)
    hourly = np.nan if device.hourly_usd is None else device.hourly_usd * float(np.ravel(result["devices"])[0])
    values = {
        f"{metric}{end}_s": float(np.broadcast_to(result[f"{field}{end}_s"], shape)[at])
        for metric, field in _LOADED.items()
        for end in ("", "_low90", "_high90")
        if f"{field}{end}_s" in result
    }
    usable, used = (float(np.broadcast_to(result[n], shape)[at]) for n in ("usable_bytes", "device_memory_bytes"))
    values |= {"memory_headroom_bytes": usable - used, "capacity_request_per_s": rate * replicas}
    return replicas, float(_RUNNING[at]), hourly * replicas, values, missed
