"""One question and the one way to its answer: a `Scenario` goes to `run`, from every face of waferline.

A field that is None was not given and takes the usual value. A field that is given and that the answer would not read is an
error: nobody believes that an option counted which did not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError, unknown
from waferline.formats import format_names, get_format, labels_of
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.machines.memory_size import with_memory
from waferline.machines.threads import with_threads
from waferline.predict.chosen_precision import choose_precision
from waferline.predict.contract import pass_contract, serving_contract
from waferline.predict.degrees import check_degrees, degree, device_count, split
from waferline.predict.engine import Engine, default_engine, get_engine
from waferline.predict.fit import Remedy, remedies, smallest_group
from waferline.predict.inputs import input_notes, sized
from waferline.predict.offload import usual_engine
from waferline.predict.result import Result
from waferline.predict.serving import ServingModel
from waferline.predict.serving_case import towers_beside
from waferline.predict.single import SingleNodeModel
from waferline.predict.techniques import without_offload
from waferline.predict.training import TrainingModel
from waferline.workloads.load import load_model
from waferline.workloads.quantization.converted import as_gguf
from waferline.workloads.scenario import whole
from waferline.workloads.spec import ModelSpec, Transformer
from waferline.workloads.streams import StreamNet

_OF_GGUF = "llama.cpp"  # the engine that reads what it packs
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
    frames). techniques: as in `ServingModel.solve`.
    micro_batch, virtual_stages, slices, recompute, sharding, stack: as in `TrainingModel.solve`. strategy, grid: of a wafer.
    intervals: False leaves them out, for sweeps that only rank.
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
    stack: str | None = None
    input_shape: str | None = None
    assume: str | None = None
    intervals: bool = True

    def given(self) -> dict[str, Any]:
        """Fields that somebody set, without those that every answer reads."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ALWAYS and self._has(f.name)}

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None

    def arguments(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The given ones of `names` (field → argument of a model), to be passed on by the argument's name."""
        return {argument: getattr(self, name) for name, argument in names.items() if self._has(name)}


_ALWAYS = ("model", "machine", "phase", "intervals")
_PASS = frozenset({"precision", "batch", "engine", "memory", "memory_share", "threads"})
_SERVING = {
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
_TRAINING = {
    name: name for name in ("tp", "pp", "ep", "dp", "micro_batch", "virtual_stages", "slices", "memory_share")
} | {name: name for name in ("recompute", "sharding", "stack")}
_WAFER = frozenset({"precision", "kv", "batch", "prompt", "output", "devices", "strategy"})
# Kind of answer → the fields it reads.
READS: Mapping[str, frozenset[str]] = {
    "serve": frozenset({*_SERVING, "precision", "prompt", "devices", "strategy", "image_size", "memory", "threads"}),
    "infer": _PASS | {"prompt"},
    "infer network": _PASS,
    "infer image": _PASS | {"image_size"},
    "denoise": _PASS | {"image_size", "frames", "steps"},
    "train": frozenset({*_TRAINING, "precision", "batch", "prompt", "devices", "memory"}),
    "train network": _PASS,
    "wafer-resident": _WAFER | {"grid"},
    "weight-streaming": _WAFER,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A result with what the user should read beside it."""

    kind: str  # serve, infer, train, wafer-resident, weight-streaming
    model: ModelSpec
    device: Device
    result: Result
    remedies: tuple[Remedy, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return bool(np.all(self.result["feasible"]))

    def to_json(self) -> dict[str, Any]:
        contract = serving_contract if self.kind == "serve" else pass_contract
        data = contract(self.result)
        data["notes"] = [*data.get("notes", []), *self.notes]
        if not self.fits:
            data["would_fit"] = [{"change": r.change, "option": r.option} for r in self.remedies]
        return data


def run(scenario: Scenario) -> Answer:
    """The answer to `scenario`.

    Raises: UnknownNameError, FileFormatError, InvalidInputError (also for a field that the answer would not read, and for
    degrees that the model cannot be cut into), UnsupportedError, DoesNotFitError.
    """
    scenario = with_offload(scenario)
    # Refuses a shape or an assumption that it would not read.
    spec = load_model(scenario.model, input_shape=scenario.input_shape, assume=scenario.assume)
    scenario, device = replace(scenario, model=spec, input_shape=None, assume=None), load_hardware(scenario.machine)
    device = with_threads(device, scenario.threads)
    if scenario.phase not in PHASES:
        raise unknown("phase", scenario.phase, PHASES)
    kind = _kind(spec, device, scenario)
    read = _read_by(kind, scenario, spec)
    unread = scenario.given().keys() - read
    if unread:
        raise InvalidInputError(
            f"{', '.join(sorted(unread))} would not be read: {_called(kind, spec, device)}",
            hint=f"it reads {', '.join(sorted(read))}",
        )
    scenario, taken = _with_engine(replace(scenario, machine=device), kind)
    _check_degrees(spec, device, scenario)
    spec = sized(spec, scenario.image_size, scenario.frames)
    if isinstance(spec, Transformer) and _engine(device, scenario).cache == "cells":  # llama.cpp reads files of its own
        spec = as_gguf(spec)
    device, bought = with_memory(device, scenario.memory)
    precision, notes = choose_precision(
        spec, device, scenario.precision, scenario.kv, training=scenario.phase == "train"
    )
    asked = replace(scenario, model=spec, machine=device, precision=precision)
    answer = _ANSWERS[kind](asked)
    inputs = {"image": scenario.images, "clip": scenario.clips}
    apart = kind == "serve" and _engine(device, asked).towers_apart and not towers_beside(spec)
    seen = input_notes(spec, serving=kind == "serve", inputs=inputs, prompt=scenario.prompt, apart=apart)
    return replace(answer, notes=(*notes, *taken, *bought, *spec.notes, *seen, *answer.notes))


def with_offload(scenario: Scenario) -> Scenario:
    """`offload:...` among techniques is the field of that name. Raises: InvalidInputError where both are given."""
    if scenario.techniques is None:
        return scenario
    techniques, offload = without_offload(scenario.techniques)
    if offload is None:
        return scenario
    if scenario.offload is not None:
        raise InvalidInputError("offload is given twice, as an option and as a technique")
    return replace(scenario, techniques=techniques or None, offload=offload)


def _with_engine(scenario: Scenario, kind: str) -> tuple[Scenario, tuple[str, ...]]:
    """The scenario with the engine that its offload or its formats mean, where nobody names one, and a note that says so."""
    if scenario.engine is not None:
        return scenario, ()
    if scenario.offload is not None:
        engine, why = usual_engine(scenario.offload), "it does this offload"
    elif kind == "serve" and _in_gguf(scenario.precision) and default_engine(scenario.machine, scenario.model).step_s:
        engine, why = _OF_GGUF, "formats of GGUF are its own"
    else:
        return scenario, ()
    return replace(scenario, engine=engine), (f"engine {engine}: {why}; --engine changes it",)


def _in_gguf(precision: Any) -> bool:
    """Whether weights are asked for in a block format of GGUF. Raises: InvalidInputError where some are and others not."""
    names = (
        [] if precision is None else [str(p).partition(",")[0].rpartition("=")[2] for p in labels_of(precision).flat]
    )
    found = {name in format_names() and get_format(name).packed for name in names}
    if len(found) > 1:
        raise InvalidInputError(
            "formats of GGUF and others in one call run in engines of their own", hint="name an engine"
        )
    return found == {True}


def reads(scenario: Scenario) -> frozenset[str]:
    """The fields that the answer to `scenario` reads. Raises: as `run`, for names."""
    spec = load_model(scenario.model, input_shape=scenario.input_shape, assume=scenario.assume)
    device = load_hardware(scenario.machine)
    beside = {"offload", "host"} if device.link("host") is None else set()  # nothing is beside it
    beside |= set() if device.kind == "cpu" else {"threads"}
    return _read_by(_kind(spec, device, scenario), scenario, spec) - beside


def _read_by(kind: str, scenario: Scenario, spec: ModelSpec) -> frozenset[str]:
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


def _kind(spec: ModelSpec, device: Device, scenario: Scenario) -> str:
    strategy = scenario.strategy or "auto"
    if strategy not in STRATEGIES:
        raise unknown("strategy", strategy, STRATEGIES)
    generates = isinstance(spec, Transformer) and spec.has_head
    if scenario.phase == "train":
        return "train" if isinstance(spec, Transformer) else "train network"
    if isinstance(spec, StreamNet):
        return "denoise" if spec.steps else "infer image"
    if scenario.phase == "infer" or not generates:
        return "infer" if isinstance(spec, Transformer) else "infer network"
    if strategy == "auto":
        strategy = "wafer-resident" if device.kind == "wafer" else "tensor-parallel"
    return "serve" if strategy == "tensor-parallel" else strategy


def _called(kind: str, spec: ModelSpec, device: Device) -> str:
    what = {"infer": "makes one pass", "train": "trains", "serve": "is served", "denoise": "makes images"}.get(
        kind.split()[0], f"is {kind}"
    )
    return f"{spec.name} {what} on {device.name}"


def _check_degrees(spec: ModelSpec, device: Device, scenario: Scenario) -> None:
    """Refuse degrees that no engine can cut the model into, and groups that the machine's links do not form."""
    if not isinstance(spec, Transformer) or device.kind == "wafer":  # wafers hold layers, not parts of them
        return
    given = {name: getattr(scenario, name) for name in ("tp", "pp", "ep", "dp")}
    degrees = {name: degree(value, name) for name, value in given.items()}
    is_open = isinstance(scenario.devices, str) and scenario.devices == "auto"
    if scenario.devices is not None and not is_open:
        rest, others = _rest(device, scenario)
        degrees[rest] = degree(split(scenario.devices, others, rest), rest)
    check_degrees(spec, device, _engine(device, scenario), degrees, is_open=is_open)


def _engine(device: Device, scenario: Scenario) -> Engine:
    return default_engine(device, scenario.model) if scenario.engine is None else get_engine(scenario.engine)


def _rest(device: Device, scenario: Scenario) -> tuple[str, dict[str, Any]]:
    """The degree that a number of devices leaves open (replicas in training, else the engine's own way), and all as given."""
    usual = "dp" if scenario.phase == "train" else "tp"
    splits = scenario.phase != "train" and _engine(device, scenario).split == "layers" and scenario.pp is None
    return "pp" if splits else usual, {name: getattr(scenario, name) for name in ("tp", "pp", "dp")}


def _serve(s: Scenario) -> Answer:
    model, device = s.model, s.machine
    arguments = s.arguments(_SERVING) | {"precision": s.precision, "intervals": s.intervals}
    arguments.setdefault("output_len", OUTPUT_TOKENS)
    arguments["seq_len"] = (model.usual_prompt or PROMPT_TOKENS) if s.prompt is None else s.prompt
    if device_count(s.devices) is None:
        return Answer("serve", model, device, smallest_group(model, device, arguments))
    rest, given = _rest(device, s)
    arguments[rest] = split(s.devices, given, rest)
    result = ServingModel().solve(model, device, **arguments)
    fits = bool(np.all(result["feasible"]))
    found = (
        ()
        if fits or result.shape
        else tuple(remedies(model, device, arguments, () if given[rest] is not None else (rest,)))
    )
    return Answer("serve", model, device, result, found)


def _one_pass(s: Scenario) -> Answer:
    phase = "train" if s.phase == "train" else "infer"
    result = SingleNodeModel().solve(
        s.model,
        s.machine,
        1 if s.batch is None else s.batch,
        s.precision,
        phase=phase,
        seq_len=s.prompt,
        engine=s.engine,
        steps=s.steps,
        memory_share=s.memory_share,
    )
    return Answer(phase, s.model, s.machine, result)


def _train(s: Scenario) -> Answer:
    if device_count(s.devices) is None:
        raise InvalidInputError("--devices auto: a training step needs a number of devices")
    arguments = s.arguments(_TRAINING) | {"dp": split(s.devices, _rest(s.machine, s)[1], "dp")}
    result = TrainingModel().solve(
        s.model,
        s.machine,
        PROMPT_TOKENS if s.prompt is None else s.prompt,
        1 if s.batch is None else s.batch,
        precision=s.precision,
        **arguments,
    )
    return Answer("train", s.model, s.machine, result)


def _wafer(s: Scenario) -> Answer:
    from waferline.predict import wafer

    kind = "weight-streaming" if s.strategy == "weight-streaming" else "wafer-resident"
    solve = {"wafer-resident": wafer.predict_resident, "weight-streaming": wafer.predict_streaming}[kind]
    usual = replace(
        s,
        batch=1.0 if s.batch is None else whole("batch", s.batch),
        prompt=PROMPT_TOKENS if s.prompt is None else whole("prompt", s.prompt),
        output=OUTPUT_TOKENS if s.output is None else whole("output", s.output, least=0),
        devices="auto" if s.devices is None else str(s.devices),
    )
    return Answer(kind, s.model, s.machine, solve(s.model, s.machine, usual))


_ANSWERS: Mapping[str, Callable[[Scenario], Answer]] = {
    "serve": _serve,
    "infer": _one_pass,
    "infer network": _one_pass,
    "infer image": _one_pass,
    "denoise": _one_pass,
    "train": _train,
    "train network": _one_pass,
    "wafer-resident": _wafer,
    "weight-streaming": _wafer,
}
