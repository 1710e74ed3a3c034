"""Laws that no implementation breaks: arithmetic, bandwidth, capacity. Each request gets the best value they allow.

Schedules, engines and parallel layouts are left free: work of every phase may overlap perfectly and spread evenly, so
that a value beyond these bounds is impossible and not merely better than expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import UnsupportedError
from waferline.evidence.claims.work import (
    Work,
    best_bandwidth_bytes_per_s,
    best_peak_flops,
    generating,
    one_pass_flops,
    stored_bytes,
)
from waferline.evidence.machines import machine
from waferline.evidence.names import model_spec
from waferline.evidence.request import Refusal, Request
from waferline.formats import Precision, resolve
from waferline.machines.device import Device
from waferline.predict.engine import get_engine
from waferline.workloads.quantization.converted import as_gguf
from waferline.workloads.spec import ModelSpec, Transformer

COMPUTE, BANDWIDTH, CAPACITY = "arithmetic", "bandwidth", "capacity"
_TERA = 1e12


@dataclass(frozen=True, slots=True)
class Limit:
    """The best value of a request's metric, in its unit, the law that sets it, and how the bytes compare with memory.

    needed_bytes: weights, and the KV cache of the whole batch; nan where nothing is held. capacity_bytes: all devices.
    """

    best: float
    law: str
    weights_bytes: float
    needed_bytes: float
    capacity_bytes: float


@dataclass(frozen=True, slots=True)
class _Group:
    """Requests that share model, machine and formats, as arrays."""

    requests: Sequence[Request]
    model: ModelSpec
    device: Device
    precision: Precision

    def column(self, name: str) -> FloatArray:
        return np.array([getattr(r, name) for r in self.requests], dtype=np.float64)

    @property
    def peak(self) -> FloatArray:
        stated = "a=" in self.requests[0].precision
        return best_peak_flops(self.device, self.precision, stated) * self.column("devices")

    def bandwidth(self, resident_bytes: float) -> FloatArray:
        devices = self.column("devices")
        return best_bandwidth_bytes_per_s(self.device, resident_bytes, devices) * devices

    @property
    def capacity(self) -> FloatArray:
        levels = self.device.memory if self.device.kind == "mcu" else self.device.memory[-1:]
        nearer = sum(level.capacity_bytes for level in levels[:-1])
        return (nearer + self.device.most_capacity_bytes) * self.column("devices")


def limits(requests: Sequence[Request]) -> list[Limit]:
    """A limit for each request; they share model, machine, formats and door.

    Raises: any WaferlineError of lowering, for the whole group.
    """
    first = requests[0]
    model = model_spec(first.model)
    assert not isinstance(model, Refusal)
    device = machine(first.hardware)
    if first.door == "simulated":
        raise UnsupportedError("the best value of requests at a rate of their own is not known")
    if isinstance(model, Transformer) and first.door == "serving" and get_engine(first.engine).cache == "cells":
        model = as_gguf(model)
    group = _Group(requests, model, device, resolve(first.precision, device.arithmetic, kv=first.kv))
    return {"serving": _serving, "wafer": _serving, "training": _training, "single": _single}[first.door](group)


@dataclass(frozen=True, slots=True)
class _Resource:
    """Seconds of one resource, all devices at their peak: reading a batch of prompts, and one step of the batch."""

    prompts_s: FloatArray
    step_s: FloatArray


Reader = Callable[[_Resource, Mapping[str, FloatArray]], FloatArray]


def _whole_s(r: _Resource, s: Mapping[str, FloatArray]) -> FloatArray:
    return r.prompts_s + np.maximum(s["outputs"] - 1, 0) * r.step_s


def _rate(tokens: str) -> Reader:
    return lambda r, s: s["batch"] * s[tokens] / _whole_s(r, s)


# Metric → its best value by one resource. `batch` is the sequences in flight, as many as the claim or memory allows.
_READ: Mapping[str, Reader] = {
    "ttft_s": lambda r, s: r.prompts_s,
    "tpot_s": lambda r, s: r.step_s,
    "latency_s": _whole_s,
    "prompt_tokens_per_s": lambda r, s: s["batch"] * s["inputs"] / r.prompts_s,
    "decoded_tokens_per_s": lambda r, s: s["batch"] / r.step_s,
    "output_tokens_per_s": _rate("outputs"),
    "total_tokens_per_s": _rate("all"),
    "samples_per_s": _rate("one"),
}
_TIMES = frozenset({"ttft_s", "tpot_s", "latency_s", "step_time_s"})


def _serving(g: _Group) -> list[Limit]:
    assert isinstance(g.model, Transformer)
    inputs, outputs, batch = g.column("input_tokens"), g.column("output_tokens"), g.column("batch")
    held = generating(g.model, g.precision, np.ones(()), inputs, outputs)
    load = g.requests[0].load
    room = np.maximum((g.capacity - held.stored_bytes) / np.maximum(held.held_bytes, 1.0), 1.0)
    in_flight = np.minimum(batch, np.floor(room)) if load == "full" else batch
    times = np.array([r.answer in _TIMES for r in g.requests]) & (load != "static")
    in_flight = np.where(times, 1.0, in_flight)  # under load the luckiest request is alone
    work = generating(g.model, g.precision, in_flight, inputs, outputs)
    sizes = {"batch": in_flight, "inputs": inputs, "outputs": outputs, "all": inputs + outputs, "one": np.ones(())}
    compute, memory = _resources(g, work, in_flight)
    if (
        load != "static"
    ):  # a continuous batch reads its weights once for all phases: prompts cost no traffic of their own
        memory = _Resource(np.where(times, memory.prompts_s, 0.0), memory.step_s)
    by_law = {COMPUTE: _pick(g, compute, sizes), BANDWIDTH: _pick(g, memory, sizes)}
    needed = work.stored_bytes + np.where(np.isfinite(batch), batch, 1.0) * work.held_bytes
    return _limits(g, by_law, np.full(len(g.requests), work.stored_bytes), needed)


def _resources(g: _Group, w: Work, batch: FloatArray) -> tuple[_Resource, _Resource]:
    bandwidth = g.bandwidth(w.stored_bytes)
    compute = _Resource(batch * w.prompt_flops / g.peak, batch * w.step_flops / g.peak)
    memory = _Resource(w.weight_bytes / bandwidth, (w.weight_bytes + batch * w.kv_bytes) / bandwidth)
    return compute, memory


def _pick(g: _Group, resource: _Resource, sizes: Mapping[str, FloatArray]) -> FloatArray:
    with np.errstate(divide="ignore"):
        read = {r.answer: np.broadcast_to(_READ[r.answer](resource, sizes), len(g.requests)) for r in g.requests}
    return np.array([read[r.answer][i] for i, r in enumerate(g.requests)])


def _training(g: _Group) -> list[Limit]:
    tokens, batch = g.column("input_tokens"), g.column("batch")
    peak, devices = g.peak, g.column("devices")
    flops = one_pass_flops(g.model, g.precision, tokens, training=True)
    sequences_per_s = peak / flops
    values = {
        "step_time_s": batch / sequences_per_s,
        "samples_per_s": sequences_per_s,
        "total_tokens_per_s": sequences_per_s * tokens,
    }
    utilisation = {"mfu", "causal_mfu", "hfu"}
    best = np.array(
        [
            1.0
            if r.answer in utilisation
            else (values[r.answer][i] if r.answer in values else peak[i] / devices[i] / _TERA)
            for i, r in enumerate(g.requests)
        ]
    )
    weights = np.full(len(g.requests), stored_bytes(g.model, g.precision))
    return _limits(g, {COMPUTE: best}, weights, weights)


def _single(g: _Group) -> list[Limit]:
    batch = g.column("batch")
    weights = stored_bytes(g.model, g.precision)
    compute_s = batch * one_pass_flops(g.model, g.precision, g.column("input_tokens")) / g.peak
    memory_s = weights / g.bandwidth(weights)
    by_law = {}
    for law, seconds in ((COMPUTE, compute_s), (BANDWIDTH, memory_s)):
        by_law[law] = np.array(
            [s if r.answer == "latency_s" else b / s for r, s, b in zip(g.requests, seconds, batch, strict=True)]
        )
    held = np.full(len(g.requests), weights)
    return _limits(g, by_law, held, held)


def _limits(g: _Group, by_law: Mapping[str, FloatArray], weights: FloatArray, needed: FloatArray) -> list[Limit]:
    out = []
    for i, r in enumerate(g.requests):
        tightest = max if r.answer in _TIMES else min
        law = tightest(by_law, key=lambda name: by_law[name][i])
        values = (float(by_law[law][i]), law, float(weights[i]), float(needed[i]), float(g.capacity[i]))
        out.append(Limit(*values))
    return out
