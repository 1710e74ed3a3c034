"""What would make it fit: more devices, a narrower format, a shorter context or a smaller batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.errors import DoesNotFitError, UnsupportedError, WaferlineError
from waferline.formats import get_format, resolve
from waferline.machines.device import Device
from waferline.machines.memory_size import with_memory
from waferline.predict.degrees import group_sizes
from waferline.predict.engine import default_engine, get_engine
from waferline.predict.memory import kv_elements_per_token
from waferline.predict.serving import ServingModel, ServingResult
from waferline.workloads.spec import Transformer

# Narrower formats to propose, widest first, so that the first that fits loses least.
NARROWER = ("fp8", "int8", "q6_k", "q5_k_m", "q4_k_m", "int4", "int3", "int2")
_STEP = 256  # tokens between lengths that are proposed
_AT_ONCE = 1024  # lengths that are tried at once; more are searched in steps
_LARGE_SHARE = 0.95  # of memory that an engine may be told to take


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change that makes the request fit, in words and as the option that makes it."""

    change: str
    option: str


def smallest_group(model: Transformer, device: Device, request: Mapping[str, Any]) -> ServingResult:
    """The request on the smallest group of devices that holds it, spread as its engine spreads models.

    Raises: DoesNotFitError when no group of up to 1,024 devices does.
    """
    tp, pp = _smallest(model, device, request)
    return ServingModel().solve(model, device, **{**request, "tp": tp, "pp": pp})


def _smallest(model: Transformer, device: Device, request: Mapping[str, Any]) -> tuple[int, int]:
    """(tp, pp) of the smallest group that holds the request."""
    engine = default_engine(device, model) if request.get("engine") is None else get_engine(str(request["engine"]))
    for tp, pp in group_sizes(model, device, engine, request):
        if bool(np.all(_held(model, device, {**request, "tp": tp, "pp": pp})["feasible"])):
            return tp, pp
    raise DoesNotFitError(f"{model.name} does not fit any group of {device.name} that its links can form")


def remedies(
    model: Transformer, device: Device, request: Mapping[str, Any], derived: Collection[str] = ()
) -> list[Remedy]:
    """Every single change that would make `request` (keyword arguments of `ServingModel.solve`) fit.

    derived: degrees that nobody gave, which another number of devices changes.
    """
    free = {name: value for name, value in request.items() if name not in derived}
    found = [_more_memory(model, device, request), _larger_share(model, device, request)]
    found += [_more_devices(model, device, free), _narrower_format(model, device, request)]
    found += [
        _offloaded(model, device, request),
        _shorter(model, device, request),
        _smaller_batch(model, device, request),
    ]
    return [r for r in found if r is not None]


def _fits(model: Transformer, device: Device, request: Mapping[str, Any]) -> bool:
    return bool(np.all(_held(model, device, request)["feasible"]))


def _runs(model: Transformer, device: Device, request: Mapping[str, Any]) -> ServingResult:
    """A decode step. Raises: UnsupportedError where the machine's units or links could not run it."""
    return ServingModel().solve(model, device, **request, only="decode")


def _held(model: Transformer, device: Device, request: Mapping[str, Any]) -> ServingResult:
    """What memory holds, without any time."""
    return ServingModel().solve(model, device, **request, only="memory")


def _more_memory(model: Transformer, device: Device, request: Mapping[str, Any]) -> Remedy | None:
    """The smallest size that the machine is sold with in which it fits."""
    for gib, given in sorted(device.memory_sizes.items()):
        if given > device.capacity_bytes and _fits(model, with_memory(device, f"{gib}GB")[0], request):
            return Remedy(f"{gib} GB of memory", f"--memory {gib}GB")
    return None


def _larger_share(model: Transformer, device: Device, request: Mapping[str, Any]) -> Remedy | None:
    """As large a share of the memory as engines are told to take in practice."""
    if float(_held(model, device, request)["usable_bytes"]) >= _LARGE_SHARE * device.capacity_bytes:
        return None
    wider = {**request, "memory_share": _LARGE_SHARE}
    if not _fits(model, device, wider):
        return None
    return Remedy(f"{_LARGE_SHARE:.0%} of memory".replace("%", " %"), f"--memory-share {_LARGE_SHARE}")


def _more_devices(model: Transformer, device: Device, request: Mapping[str, Any]) -> Remedy | None:
    try:
        tp, pp = _smallest(model, device, request)
        devices = int(_runs(model, device, {**request, "tp": tp, "pp": pp})["devices"])
    except (DoesNotFitError, UnsupportedError):
        return None
    if devices == 1:
        return None
    return Remedy(f"{devices} devices", f"--tp {tp} --pp {pp}" if tp > 1 < pp else f"--devices {devices}")


def _narrower_format(model: Transformer, device: Device, request: Mapping[str, Any]) -> Remedy | None:
    now = get_format(resolve(str(request["precision"]), device.arithmetic).weights).bits
    for name in NARROWER:
        if get_format(name).bits >= now:
            continue
        try:
            narrow = {**request, "precision": name}
            if _fits(model, device, narrow) and _runs(model, device, narrow):
                return Remedy(f"{name} weights ({get_format(name).bits:g} bits each)", f"--precision {name}")
        except UnsupportedError:
            continue
    return None


def _offloaded(model: Transformer, device: Device, request: Mapping[str, Any]) -> Remedy | None:
    """What llama.cpp would leave to the CPU beside the device, of weights in a format that it reads."""
    weights = get_format(resolve(str(request["precision"]), device.arithmetic).weights)
    if request.get("offload") is not None or not (weights.bits >= 16 or weights.source == "llamacpp"):
        return None
    try:
        fits = bool(_runs(model, device, {**request, "offload": "auto"})["feasible"])
    except WaferlineError:  # no host beside it, ranks that a host does not serve, an engine that leaves nothing to one
        return None
    return Remedy("a part left to its host", "--offload auto") if fits else None


def _shorter(model: Transformer, device: Device, request: Mapping[str, Any]) -> Remedy | None:
    """The longest prompt, or context where one is asked, to a multiple of 256, that fits with everything else as asked."""
    if not kv_elements_per_token(model):
        return None
    name, option, least = ("seq_len", "--prompt", 256)
    if request.get("context") is not None:
        name, option, least = "context", "--context", int(request["seq_len"]) + int(request["output_len"])
    longest = _longest(model, device, request, name, -(-least // _STEP))
    if longest is None:
        return None
    what = "prompts" if name == "seq_len" else "contexts"
    return Remedy(f"{what} of {longest} tokens", f"{option} {longest}")


def _longest(model: Transformer, device: Device, request: Mapping[str, Any], name: str, first: int) -> int | None:
    """The largest `name` below the one asked that fits, of multiples of `_STEP` from `first` of them on."""
    most, apart = -(-int(request[name]) // _STEP), 1  # the first multiple that is not below
    while (most - first) // apart > _AT_ONCE:
        apart *= _AT_ONCE
    while True:
        lengths = np.arange(first, most, apart, dtype=float)[::-1]
        if not lengths.size:
            return None
        asked = {**request, name: lengths * _STEP}
        fits = np.broadcast_to(_held(model, device, asked)["feasible"], lengths.shape)
        if not fits.any():
            return None
        first = int(lengths[np.argmax(fits)])
        if apart == 1:
            return first * _STEP
        most, apart = min(most, first + apart), max(apart // _AT_ONCE, 1)


def _smaller_batch(model: Transformer, device: Device, request: Mapping[str, Any]) -> Remedy | None:
    most = int(_held(model, device, request)["max_batch_size"])
    if not 0 < most < int(request["batch_size"]):
        return None
    return Remedy(f"a batch of {most}", f"--batch {most}")
