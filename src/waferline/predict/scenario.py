"""One question, and which of its fields an answer reads.

A field that is None was not given and takes the usual value. A field that is given and that the answer would not read is an
error: nobody believes that an option counted which did not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from waferline.errors import unknown
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.workloads.load import load_model
from waferline.workloads.spec import ModelSpec, Transformer
from waferline.workloads.streams import StreamNet

PHASES = ("serve", "infer", "train")
STRATEGIES = ("auto", "tensor-parallel", "wafer-resident", "weight-streaming")
PROMPT_TOKENS, OUTPUT_TOKENS = 2048, 256  # of a request when nobody says


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is asked. Numbers may be arrays, which broadcast as in NumPy; None means "not given".

    model, machine: a name, a path or a loaded record. phase: serve (prefill and decode), infer (one pass) or train.
    batch: sequences (or inputs) at once; under load clients; in training the global batch. prompt, output: tokens of each.
        devices: how many, or "auto" for the fewest that fit. memory: of each device, where a machine is sold with several sizes
    ("64GB"). threads: cores
    of a CPU that work. load, concurrency, memory_share, context: as in `ServingModel.solve`. images, clips: of each prompt, for the
    model's towers. image_size: WIDTHxHEIGHT of them, or of what a diffusion model makes in `steps` steps (a video of `frames`
    frames). ring: as in `SingleNodeModel.solve`. techniques: as in `ServingModel.solve`.
    micro_batch, virtual_stages, slices, recompute, sharding, trains, stack: as in `TrainingModel.solve`. strategy, grid: of a
    wafer. intervals: False leaves them out, for sweeps that only rank. only: as in `ServingModel.solve`.
    """

    model: Any
    machine: Any
    phase: str = "serve"
    precision: Any = None
    kv: str | None = None
    batch: Any = None
    prompt: Any = None
    output: Any = None
    devices: Any = None
    tp: Any = None
    pp: Any = None
    ep: Any = None
    dp: Any = None
    engine: str | None = None
    profile: Any = None
    load: str | None = None
    concurrency: Any = None
    images: Any = None
    clips: Any = None
    image_size: str | None = None
    frames: int | None = None
    steps: Any = None
    ring: Any = None
    memory: str | None = None
    threads: int | None = None
    memory_share: float | None = None
    context: Any = None
    offload: str | None = None
    host: Any = None
    techniques: Any = None
    strategy: str | None = None
    grid: str | None = None
    micro_batch: Any = None
    virtual_stages: Any = None
    slices: Any = None
    recompute: str | None = None
    sharding: str | None = None
    trains: str | None = None
    stack: str | None = None
    input_shape: str | None = None
    assume: str | None = None
    intervals: bool = True
    only: str = ""

    def given(self) -> dict[str, Any]:
        """Fields that somebody set, without those that every answer reads."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ALWAYS and self._has(f.name)}

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None

    def arguments(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The given ones of `names` (field → argument of a model), to be passed on by the argument's name."""
        return {argument: getattr(self, name) for name, argument in names.items() if self._has(name)}


_ALWAYS = ("model", "machine", "phase", "intervals", "only")
_PASS = frozenset({"precision", "batch", "engine", "memory", "memory_share", "threads", "techniques"})
SERVING = {
    "kv": "kv",
    "batch": "batch_size",
    "output": "output_len",
    "tp": "tp",
    "pp": "pp",
    "ep": "ep",
    "dp": "dp",
    "engine": "engine",
    "profile": "profile",
    "load": "load",
    "concurrency": "concurrency",
    "images": "images",
    "clips": "clips",
    "memory_share": "memory_share",
    "context": "context",
    "offload": "offload",
    "host": "host",
    "techniques": "techniques",
}
TRAINING = {
    name: name for name in ("tp", "pp", "ep", "dp", "micro_batch", "virtual_stages", "slices", "memory_share")
} | {name: name for name in ("recompute", "sharding", "trains", "stack")}
_WAFER = frozenset({"precision", "kv", "batch", "prompt", "output", "devices", "strategy"})
# Kind of answer → the fields it reads.
READS: Mapping[str, frozenset[str]] = {
    "serve": frozenset({*SERVING, "precision", "prompt", "devices", "strategy", "image_size", "memory", "threads"}),
    "infer": _PASS | {"prompt"},
    "infer network": _PASS,
    "infer image": _PASS | {"image_size"},
    "denoise": _PASS | {"image_size", "frames", "steps", "devices", "ring"},
    "train": frozenset({*TRAINING, "precision", "batch", "prompt", "devices", "memory"}),
    "train network": _PASS | {"devices"},
    "wafer-resident": _WAFER | {"grid"},
    "weight-streaming": _WAFER,
}


def reads(scenario: Scenario) -> frozenset[str]:
    """The fields that the answer to `scenario` reads. Raises: as `run`, for names."""
    spec = load_model(scenario.model, input_shape=scenario.input_shape, assume=scenario.assume)
    device = load_hardware(scenario.machine)
    beside = {"offload", "host"} if device.link("host") is None else set()  # nothing is beside it
    beside |= set() if device.kind == "cpu" else {"threads"}
    return read_by(kind_of(spec, device, scenario), scenario, spec) - beside


def read_by(kind: str, scenario: Scenario, spec: ModelSpec) -> frozenset[str]:
    """Less what this very question leaves unread: a limit on sequences of a static batch, images that no tower sees, a host
    that gets nothing, parts of stages where there is one stage."""
    unread = {"concurrency"} if scenario.load in (None, "static") else set()
    unread |= {"host"} if scenario.offload is None else set()
    unread |= {"virtual_stages"} if scenario.pp is None else set()
    if kind == "serve":
        kinds = {tower.kind for tower in getattr(spec, "towers", ())}
        unread |= set() if "clip" in kinds else {"clips"}
        unread |= set() if "image" in kinds else {"images", "image_size"}
        unread |= {"image_size"} if scenario.images is None else set()
    if kind == "denoise" and isinstance(spec, StreamNet) and spec.grid.frame_stride == 1:
        unread |= {"frames"}
    return READS[kind] - unread


def kind_of(spec: ModelSpec, device: Device, scenario: Scenario) -> str:
    strategy = scenario.strategy or "auto"
    if strategy not in STRATEGIES:
        raise unknown("strategy", strategy, STRATEGIES)
    generates = isinstance(spec, Transformer) and spec.has_head and spec.kind != "encoder"
    if scenario.phase == "train":
        return "train" if isinstance(spec, Transformer) else "train network"
    if isinstance(spec, StreamNet):
        return "denoise" if spec.steps else "infer image"
    if scenario.phase == "infer" or not generates:
        return "infer" if isinstance(spec, Transformer) else "infer network"
    if strategy == "auto":
        strategy = "wafer-resident" if device.kind == "wafer" else "tensor-parallel"
    return "serve" if strategy == "tensor-parallel" else strategy


def described(kind: str, spec: ModelSpec, device: Device) -> str:
    what = {"infer": "makes one pass", "train": "trains", "serve": "is served", "denoise": "makes images"}.get(
        kind.split()[0], f"is {kind}"
    )
    return f"{spec.name} {what} on {device.name}"
