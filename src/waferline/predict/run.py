"""The one way from a question to its answer: every face of waferline hands a `Scenario` to `run`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from waferline.predict.scenario import (
    OUTPUT_TOKENS,
    PHASES,
    PROMPT_TOKENS,
    SERVING,
    TRAINING,
    Scenario,
    described,
    kind_of,
    read_by,
)
from waferline.predict.serving import ServingModel
from waferline.predict.serving_case import towers_beside
from waferline.predict.single import SingleNodeModel
from waferline.predict.techniques import applied, on_machine, without_offload
from waferline.predict.training import TrainingModel
from waferline.workloads.load import load_model
from waferline.workloads.quantization.converted import as_gguf
from waferline.workloads.scenario import whole
from waferline.workloads.spec import ModelSpec, Transformer
from waferline.workloads.streams import StreamNet

_OF_GGUF = "llama.cpp"  # the engine that reads what it packs


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
    kind = kind_of(spec, device, scenario)
    read = read_by(kind, scenario, spec)
    unread = scenario.given().keys() - read
    if unread:
        raise InvalidInputError(
            f"{', '.join(sorted(unread))} would not be read: {described(kind, spec, device)}",
            hint=f"it reads {', '.join(sorted(read))}",
        )
    device = on_machine(applied(scenario.techniques), device)
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
    if isinstance(spec, StreamNet) and spec.steps and scenario.steps is not None and np.ndim(scenario.steps) == 0:
        spec = replace(spec, steps=int(scenario.steps))  # what is said of the answer
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
    arguments = s.arguments(SERVING) | {"precision": s.precision, "intervals": s.intervals}
    arguments |= {"only": s.only} if s.only else {}
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
        if fits or result.shape or s.only
        else tuple(remedies(model, device, arguments, () if given[rest] is not None else (rest,)))
    )
    return Answer("serve", model, device, result, found)


def _one_pass(s: Scenario) -> Answer:
    phase = "train" if s.phase == "train" else "infer"
    sharing = s.devices if s.devices is None or np.ndim(s.devices) else device_count(s.devices)
    if s.devices is not None and sharing is None:
        raise InvalidInputError("--devices auto: images are shared by a number of devices")
    result = SingleNodeModel().solve(
        s.model,
        s.machine,
        1 if s.batch is None else s.batch,
        s.precision,
        phase=phase,
        seq_len=s.prompt,
        engine=s.engine,
        steps=s.steps,
        ring=s.ring,
        devices=sharing,
        memory_share=s.memory_share,
        techniques=s.techniques,
    )
    return Answer(phase, s.model, s.machine, result)


def _train(s: Scenario) -> Answer:
    if device_count(s.devices) is None:
        raise InvalidInputError("--devices auto: a training step needs a number of devices")
    arguments = s.arguments(TRAINING) | {"dp": split(s.devices, _rest(s.machine, s)[1], "dp")}
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
