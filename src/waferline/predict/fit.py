"""What would make it fit: more devices, a narrower format, a shorter context or a smaller batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.errors import DoesNotFitError, UnsupportedError
from waferline.formats import get_format
from waferline.machines.device import Device
from waferline.predict.degrees import group_sizes
from waferline.predict.engine import default_engine, get_engine
from waferline.predict.memory import kv_elements_per_token
from waferline.predict.serving import ServingModel, ServingResult
from waferline.workloads.spec import Transformer

# Narrower formats to propose, widest first, so that the first that fits loses least.
NARROWER = ("fp8", "int8", "q6_k", "q5_k_m", "q4_k_m", "int4", "int3", "int2")


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change that makes the request fit, in words and as the option that makes it."""

    change: str
    option: str


def smallest_group(model: Transformer, device: Device, request: Mapping[str, Any]) -> ServingResult:
    """The request on the smallest group of devices that holds it, spread as its engine spreads models.

    Raises: DoesNotFitError when no group of up to 1,024 devices does.
    """
    engine = default_engine(device) if request.get("engine") is None else get_engine(str(request["engine"]))
    for tp, pp in group_sizes(model, device, engine, request):
        result = ServingModel().solve(model, device, **{**request, "tp": tp, "pp": pp})
        if bool(np.all(result["feasible"])):
            return result
    raise DoesNotFitError(f"{model.name} does not fit any group of {device.name} that its links can form")


def remedies(model: Transformer, device: Device, request: Mapping[str, Any]) -> list[Remedy]:
    """Every single change that would make `request` (keyword arguments of `ServingModel.solve`) fit."""
    found = [_more_devices(model, device, request), _narrower_format(model, device, request)]
    found += [_shorter(model, device, request), _smaller_batch(model, device, request)]
    return [r for r in found if r is not None]


def _fits(model: Transformer, device: Device, request: Mapping[str, Any]) -> bool:
    return bool(np.all(ServingModel().solve(model, device, **request)["feasible"]))


def _more_devices(model: Transformer, device: Device, request: Mapping[str, Any]) -> Remedy | None:
    try:
        result = smallest_group(model, device, request)
    except (DoesNotFitError, UnsupportedError):
        return None
    devices = int(result["devices"])
    return Remedy(f"{devices} devices", f"--devices {devices}") if devices > 1 else None


def _narrower_format(model: Transformer, device: Device, request: Mapping[str, Any]) -> Remedy | None:
    now = get_format(str(request["precision"])).bits if "=" not in str(request["precision"]) else 16.0
    for name in NARROWER:
        if get_format(name).bits >= now:
            continue
        try:
            if _fits(model, device, {**request, "precision": name}):
                return Remedy(f"{name} weights ({get_format(name).bits:g} bits each)", f"--precision {name}")
        except UnsupportedError:
            continue
    return None


def _shorter(model: Transformer, device: Device, request: Mapping[str, Any]) -> Remedy | None:
    """The longest prompt, to a multiple of 256, that fits with everything else as asked."""
    if not kv_elements_per_token(model):
        return None
    lengths = np.arange(256, int(request["seq_len"]), 256, dtype=float)[::-1]
    if not lengths.size:
        return None
    fits = np.broadcast_to(
        ServingModel().solve(model, device, **{**request, "seq_len": lengths})["feasible"], lengths.shape
    )
    if not fits.any():
        return None
    longest = int(lengths[np.argmax(fits)])
    return Remedy(f"prompts of {longest} tokens", f"--prompt {longest}")


def _smaller_batch(model: Transformer, device: Device, request: Mapping[str, Any]) -> Remedy | None:
    most = int(ServingModel().solve(model, device, **request)["max_batch_size"])
    if not 0 < most < int(request["batch_size"]):
        return None
    return Remedy(f"a batch of {most}", f"--batch {most}")
