"""From one request of a user to the model that answers it: serving, a single pass, training, or a wafer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError, UnsupportedError, unknown
from waferline.formats import resolve
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.contract import pass_contract, serving_contract
from waferline.predict.fit import Remedy, remedies, smallest_group
from waferline.predict.result import Result
from waferline.predict.serving import ServingModel
from waferline.predict.single import SingleNodeModel
from waferline.predict.training import TrainingModel
from waferline.text import is_count
from waferline.workloads.load import load_model
from waferline.workloads.spec import ModelSpec, Transformer

PHASES = ("serve", "infer", "train")
STRATEGIES = ("auto", "tensor-parallel", "wafer-resident", "weight-streaming")
_DEFAULT_PROMPT = 2048
# Formats to try, in order, when the user names none and the checkpoint has none of its own.
_USUAL_PRECISIONS = ("bf16", "fp16", "w8a8", "fp32")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line (or a study file) asks; None means "the usual"."""

    precision: str | None = None
    kv: str | None = None
    batch: int = 1
    prompt: int | None = None
    output: int = 256
    devices: str = "1"
    tp: int | None = None
    pp: int = 1
    ep: int = 1
    dp: int = 1
    engine: str | None = None
    load: str = "static"
    phase: str = "serve"
    micro_batch: int = 1
    recompute: str = "selective"
    strategy: str = "auto"
    profile: str | None = None
    grid: str | None = None


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


def answer(model: Any, hardware: Any, request: Request) -> Answer:
    """The answer to `request`. Raises: the typed errors of `waferline.errors`."""
    spec, device = load_model(model), load_hardware(hardware)
    if request.phase not in PHASES:
        raise unknown("phase", request.phase, PHASES)
    for name, degree in (("tp", request.tp), ("pp", request.pp), ("ep", request.ep), ("dp", request.dp)):
        if degree is not None and degree < 1:
            raise InvalidInputError(f"{name} must be at least 1, got {degree}")
    if request.strategy not in STRATEGIES:
        raise unknown("strategy", request.strategy, STRATEGIES)
    precision, notes = choose_precision(spec, device, request.precision)
    request = replace(request, precision=precision)
    generates = isinstance(spec, Transformer) and spec.has_head
    if request.phase == "serve" and generates and _strategy(device, request) != "tensor-parallel":
        kind = _strategy(device, request)
    else:
        kind = request.phase if generates or request.phase == "train" else "infer"
        if kind == "train" and not isinstance(spec, Transformer):
            kind = "single-train"
    if request.grid is not None and kind not in ("wafer-resident", "weight-streaming"):
        raise InvalidInputError(
            f"--grid is for wafers, and {device.name} is {device.kind}", hint="--on wse2, --on wse3"
        )
    return _ANSWERS[kind](spec, device, request, notes)


def _strategy(device: Device, request: Request) -> str:
    if request.strategy != "auto":
        return request.strategy
    return "wafer-resident" if device.kind == "wafer" else "tensor-parallel"


def choose_precision(model: ModelSpec, device: Device, asked: str | None) -> tuple[str, tuple[str, ...]]:
    """The precision to use and a note that says so when the user named none.

    Without a wish it is what the checkpoint ships in, if the device computes it, else the first usual one that it does.
    """
    if asked is not None:
        resolve(asked, device.arithmetic)
        return asked, ()
    shipped = getattr(model, "weight_format", None)
    for candidate in ((shipped,) if shipped else ()) + (("w8a8",) if device.kind == "mcu" else ()) + _USUAL_PRECISIONS:
        try:
            resolve(candidate, device.arithmetic)
        except UnsupportedError:
            continue
        why = "as the checkpoint ships" if candidate == shipped else f"the usual choice on {device.name}"
        return candidate, (f"precision {candidate}: {why}; --precision changes it",)
    raise UnsupportedError(f"{device.name} computes none of the usual formats", hint="name one with --precision")


def serving_arguments(request: Request) -> dict[str, Any]:
    """Keyword arguments of `ServingModel.solve` for a request on a fixed number of devices."""
    return {
        "seq_len": _DEFAULT_PROMPT if request.prompt is None else request.prompt,
        "batch_size": request.batch,
        "output_len": request.output,
        "precision": request.precision,
        "kv": request.kv,
        "tp": 1 if request.tp is None else request.tp,
        "pp": request.pp,
        "ep": request.ep,
        "dp": request.dp,
        "engine": request.engine,
        "profile": request.profile,
        "load": request.load,
    }


def _device_count(request: Request) -> int | None:
    """The number of devices asked for; None means as few as fit."""
    if request.devices == "auto":
        return None
    if not is_count(request.devices) or int(request.devices) < 1:
        raise InvalidInputError(f"--devices must be a whole number of at least 1, or 'auto', got '{request.devices}'")
    return int(request.devices)


def _serve(model: ModelSpec, device: Device, request: Request, notes: tuple[str, ...]) -> Answer:
    assert isinstance(model, Transformer)
    arguments = serving_arguments(request)
    count = _device_count(request)
    if count is None:
        return Answer("serve", model, device, smallest_group(model, device, arguments), notes=notes)
    if request.tp is None:
        others = request.pp * request.dp
        if count % others and count != 1:
            raise InvalidInputError(f"{count} devices cannot be split into pp × dp = {others} groups")
        arguments["tp"] = max(count // others, 1)
    result = ServingModel().solve(model, device, **arguments)
    if bool(np.all(result["feasible"])):
        return Answer("serve", model, device, result, notes=notes)
    return Answer("serve", model, device, result, tuple(remedies(model, device, arguments)), notes)


def _infer(model: ModelSpec, device: Device, request: Request, notes: tuple[str, ...]) -> Answer:
    result = SingleNodeModel().solve(
        model, device, request.batch, request.precision, seq_len=request.prompt, engine=request.engine
    )
    return Answer("infer", model, device, result, notes=notes)


def _single_train(model: ModelSpec, device: Device, request: Request, notes: tuple[str, ...]) -> Answer:
    result = SingleNodeModel().solve(
        model, device, request.batch, request.precision, phase="train", seq_len=request.prompt, engine=request.engine
    )
    return Answer("train", model, device, result, notes=notes)


def _train(model: ModelSpec, device: Device, request: Request, notes: tuple[str, ...]) -> Answer:
    count = _device_count(request) or 1
    tp = 1 if request.tp is None else request.tp
    dp = request.dp if request.dp > 1 else max(count // (tp * request.pp), 1)
    result = TrainingModel().solve(
        model,
        device,
        _DEFAULT_PROMPT if request.prompt is None else request.prompt,
        request.batch,
        request.micro_batch,
        str(request.precision),
        tp=tp,
        pp=request.pp,
        ep=request.ep,
        dp=dp,
        recompute=request.recompute,
    )
    return Answer("train", model, device, result, notes=notes)


def _wafer(model: ModelSpec, device: Device, request: Request, notes: tuple[str, ...]) -> Answer:
    from waferline.predict import wafer

    kind = _strategy(device, request)
    solve = {"wafer-resident": wafer.predict_resident, "weight-streaming": wafer.predict_streaming}[kind]
    result = solve(model, device, request)
    return Answer(kind, model, device, result, notes=notes)


_ANSWERS: Mapping[str, Callable[[ModelSpec, Device, Request, tuple[str, ...]], Answer]] = {
    "serve": _serve,
    "infer": _infer,
    "train": _train,
    "single-train": _single_train,
    "wafer-resident": _wafer,
    "weight-streaming": _wafer,
}
