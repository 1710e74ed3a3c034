"""Groups of devices: the degrees that a model can be cut into, and the groups that an engine would form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from waferline.arrays import Floats
from waferline.elementwise import anywhere
from waferline.errors import InvalidInputError, UnsupportedError
from waferline.machines.device import Device
from waferline.predict.engine import Engine
from waferline.text import is_count, told
from waferline.workloads.scenario import whole
from waferline.workloads.spec import Attention, LinearAttention, MixtureOfExperts, Transformer

_MOST_DEVICES = 1024


def device_count(devices: Any) -> int | None:
    """The number of devices asked for, one when nobody says; None means as few as fit.

    Raises: InvalidInputError for what is neither a count nor "auto".
    """
    if devices is None:
        return 1
    if isinstance(devices, str) and devices == "auto":
        return None
    text = devices if isinstance(devices, str) else told(devices)
    if not is_count(text) or int(text) < 1:
        raise InvalidInputError(f"--devices must be a whole number of at least 1, or 'auto', got '{text}'")
    return int(text)


def degree(value: Any, name: str) -> Floats:
    return 1.0 if value is None else whole(name, value)


def split(devices: Any, given: Mapping[str, Any], rest: str) -> Any:
    """The degree `rest` of a group of `devices`: as given, or else what the other degrees leave of them.

    Raises: InvalidInputError where the degrees (`given`: tp, pp, dp, None for one that was not given) do not make `devices`.
    """
    if devices is None:
        return given[rest] if given[rest] is not None else 1
    count = device_count(devices)
    degrees = {name: degree(value, name) for name, value in given.items()}
    is_given = given[rest] is not None
    others = np.prod([np.asarray(v) for name, v in degrees.items() if name != rest or is_given], axis=0)
    if anywhere(np.asarray(count != others if is_given else count % others != 0)):
        cut = " × ".join(f"{name} {_shown(v)}" for name, v in degrees.items() if name != rest or is_given)
        raise InvalidInputError(f"{count} devices cannot be split into {cut}")
    return given[rest] if is_given else count / others


def check_links(device: Device, devices: Floats) -> None:
    """Raises: UnsupportedError for groups that no link joins."""
    reach = device.reach("scale-up")
    if device.link("scale-out") is None and anywhere(devices > float(reach)):
        joined = f"it joins {reach} at most" if reach > 1 else "it has no link to others"
        raise UnsupportedError(f"{device.name} has no link for {_shown(devices)} devices", hint=joined)


def check_degrees(
    model: Transformer, device: Device, engine: Engine, degrees: Mapping[str, Floats], *, is_open: bool = False
) -> None:
    """Refuse degrees (tp, pp, ep, dp) that `engine` cannot cut the model into, and groups that no link joins.

    `is_open`: tp and pp are yet to be found. Raises: InvalidInputError, UnsupportedError.
    """
    tp, pp, ep, dp = (degrees[name] for name in ("tp", "pp", "ep", "dp"))
    check_links(device, tp * pp)
    for unmet in _unmet_heads(model, engine, tp):
        raise InvalidInputError(f"tp {_shown(tp)} does not divide the {unmet} of {model.name}")
    layers = _layers(model)
    if anywhere(pp > float(layers)):
        raise InvalidInputError(f"pp {_shown(pp)} is more than the {layers} layers of {model.name}")
    _check_experts(model, ep, ep if is_open else tp * dp)


def _check_experts(model: Transformer, ep: Floats, ranks: Floats) -> None:
    """Experts are spread in equal parts over ranks that exist."""
    experts = {b.ffn.experts for b in model.blocks if isinstance(b.ffn, MixtureOfExperts)}
    if not experts:
        if anywhere(ep > 1.0):
            raise InvalidInputError(f"ep {_shown(ep)}: {model.name} has no experts")
        return
    for count in sorted(experts):
        if anywhere(ep > float(count)):
            raise InvalidInputError(f"ep {_shown(ep)} is more than the {count} experts of {model.name}")
        if anywhere(count % ep != 0):
            raise InvalidInputError(f"ep {_shown(ep)} does not divide the {count} experts of {model.name}")
    if anywhere(ranks % ep != 0):
        raise InvalidInputError(f"ep {_shown(ep)} does not divide the {_shown(ranks)} ranks of tp × dp")


def _unmet_heads(model: Transformer, engine: Engine, tp: Floats) -> Iterator[str]:
    """Counts of heads that `tp` ranks cannot share equally; key-value heads may be copied to several ranks instead."""
    mixers = [b.mixer for b in model.blocks if b.mixer is not None]
    for count in sorted({getattr(m, "heads", None) or 1 for m in mixers} - {1}) if not engine.uneven_heads else ():
        if anywhere(count % tp != 0):
            yield f"{count} heads"
    attention = {m.kv_heads for m in mixers if isinstance(m, Attention)}
    linear = {m.key_heads for m in mixers if isinstance(m, LinearAttention)}
    for count, name in [(n, "key-value heads") for n in attention] + [(n, "linear key heads") for n in linear]:
        copied = tp % count if name == "key-value heads" else 1.0
        if not engine.uneven_heads and anywhere((count % tp) * copied != 0):
            yield f"{count} {name}"


def group_sizes(
    model: Transformer, device: Device, engine: Engine, given: Mapping[str, Any] | None = None
) -> list[tuple[int, int]]:
    """(tp, pp) to try in order, the way `engine` spreads a model; `given`: degrees that are as they are.

    An engine that splits layers takes as many devices as it needs. The others cut tensors by powers of two inside the domain
    that links join, then add pipeline stages.
    """
    given = given or {}
    reach = device.reach("scale-up")
    fixed_tp, fixed_pp = (None if given.get(name) is None else int(given[name]) for name in ("tp", "pp"))
    if engine.split == "layers":
        tps = [fixed_tp or 1]
        stages = list(range(1, min(_layers(model), max(reach // tps[0], 1)) + 1))
    else:
        tps = [fixed_tp] if fixed_tp else _tensor_degrees(model, engine, reach)
        stages = [2**i for i in range(11) if 2**i <= min(_layers(model), _MOST_DEVICES // tps[-1])]
    far, ranks = device.link("scale-out") is not None, float(given.get("dp") or 1) / float(given.get("ep") or 1)
    tps = [tp for tp in tps if (tp * ranks).is_integer()]  # experts are spread over ranks that exist
    if fixed_pp or not tps:
        return [(tp, fixed_pp or 1) for tp in tps]
    return [(tp, 1) for tp in tps] + [(tps[-1], pp) for pp in stages if pp > 1 and (far or tps[-1] * pp <= reach)]


def _tensor_degrees(model: Transformer, engine: Engine, reach: int) -> list[int]:
    powers = [2**i for i in range(int(np.log2(min(reach, _widest(model)))) + 1)]
    return [tp for tp in powers if not any(_unmet_heads(model, engine, float(tp)))]


def _widest(model: Transformer) -> int:
    """Query heads bound tensor parallelism: a rank needs at least one."""
    heads = [getattr(b.mixer, "heads", None) or 1 for b in model.blocks if b.mixer is not None]
    return max(heads, default=1)


def _layers(model: Transformer) -> int:
    return sum(b.count for b in model.blocks)


def _shown(value: Any) -> str:
    return ", ".join(f"{v:g}" for v in np.unique(np.asarray(value))[:3])
