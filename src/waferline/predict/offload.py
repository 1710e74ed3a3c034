"""Offload: what of a model does not stay on its device, in the words of the engines that do it, and which host it goes to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import anywhere, floor, minimum, number, where
from waferline.errors import InvalidInputError, UnsupportedError, unknown
from waferline.machines.device import Device
from waferline.predict.engine import Engine
from waferline.predict.memory import pass_tokens
from waferline.workloads.placement import NEVER, Placement, expert_layers, layer_count
from waferline.workloads.spec import Transformer

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(k|M|G|T)(i?)B", re.IGNORECASE)
_STEPS = {"k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True, slots=True)
class Offload:
    """What was asked, checked against a model. Counts of layers from the front of the stack.

    streamed_bytes: weights of one device that its host holds and that it reads over the link. auto: as little as makes it fit.
    """

    layers: int = 0
    experts: int = 0
    head: bool = False
    cache: bool = False
    streamed_bytes: float = 0.0
    auto: bool = False

    @property
    def runs_on_host(self) -> bool:
        return self.auto or self.cache or self.head or self.layers > 0 or self.experts > 0


@cache
def techniques() -> Mapping[str, Mapping[str, Any]]:
    """Name → value, meaning, engines and source of everything that `--offload` takes."""
    found: Mapping[str, Mapping[str, Any]] = read_packaged("offload.yaml")["techniques"]
    return found


def parse_offload(text: str, model: Transformer) -> Offload:
    """`experts=36`, `layers=20,kv`, `weights=10GB` or `auto`.

    Raises: InvalidInputError for a technique without its value or that this model has nothing for, UnknownNameError.
    """
    asked = Offload()
    for name, part in _parts(text):
        _, given, value = (piece.strip() for piece in part.partition("="))
        wanted = techniques()[name]["value"]
        if bool(given) != bool(wanted) and wanted[:1] != "[":
            form = f"{name}={wanted}" if wanted else name
            raise InvalidInputError(f"offload {part.strip()}: it is written {form}", hint=techniques()[name]["does"])
        asked = _READ[name](asked, value, model)
    if asked.auto and asked != Offload(auto=True):
        raise InvalidInputError("offload auto says itself what leaves the device", hint="give it alone")
    if asked.layers and asked.streamed_bytes:
        raise InvalidInputError(
            "offload: layers that the host runs and weights that the device reads are two engines' ways"
        )
    return asked


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """(technique, as written) of every part. Raises: InvalidInputError for what is no text, UnknownNameError."""
    if not isinstance(text, str):
        raise InvalidInputError(f"offload is text such as 'experts' or 'layers=20', not {type(text).__name__}")
    for part in text.split(","):
        name = part.partition("=")[0].strip()
        if name not in techniques():
            raise unknown("offload", name, techniques())
        yield name, part.strip()


def usual_engine(text: str) -> str:
    """The engine that does what `text` asks for, when nobody names one."""
    engine: str = techniques()[next(_parts(text))[0]]["engines"][0]
    return engine


def check_engine(text: str, engine: Engine) -> None:
    """Raises: UnsupportedError where `engine` does not do what `text` asks for."""
    for name, _ in _parts(text):
        able = techniques()[name]["engines"]
        if engine.name not in able:
            raise UnsupportedError(f"{engine.title} has no offload of {name}", hint=f"{able[0]} has")


def _on_device(asked: Offload, value: str, model: Transformer) -> Offload:
    kept, layers = _count("layers", value), layer_count(model)
    return replace(asked, layers=min(max(layers + 1 - kept, 0), layers), head=kept == 0)


def _on_host(asked: Offload, value: str, model: Transformer) -> Offload:
    return replace(asked, layers=_at_most("cpu-layers", _count("cpu-layers", value), layer_count(model), model))


def _experts(asked: Offload, value: str, model: Transformer) -> Offload:
    if not expert_layers(model):
        raise InvalidInputError(f"offload experts: {model.name} has no experts")
    layers = layer_count(model)
    return replace(asked, experts=_at_most("experts", _count("experts", value), layers, model) if value else layers)


def _weights(asked: Offload, value: str, model: Transformer) -> Offload:
    match = _SIZE.fullmatch(value)
    if match is None or not value.isascii():
        raise InvalidInputError(f"offload weights={value}: it is a size such as 10GB or 8GiB")
    step = 1024.0 if match[3] else 1000.0
    return replace(asked, streamed_bytes=float(match[1]) * step ** _STEPS[match[2].lower()])


_READ: Mapping[str, Callable[[Offload, str, Transformer], Offload]] = {
    "layers": _on_device,
    "cpu-layers": _on_host,
    "experts": _experts,
    "kv": lambda asked, value, model: replace(asked, cache=True),
    "weights": _weights,
    "auto": lambda asked, value, model: replace(asked, auto=True),
}


def _count(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 9:
        raise InvalidInputError(f"offload {name}={value}: it is a whole number of layers")
    return int(value)


def _at_most(name: str, count: int, layers: int, model: Transformer) -> int:
    if count > layers:
        raise InvalidInputError(f"offload {name}={count}: {model.name} has {layers} layers")
    return count


def placement(asked: Offload, model: Transformer, rules: Placement, weights_bytes: Floats) -> Placement:
    """The shares of the model that leave a device which holds `weights_bytes` of weights when nothing does."""
    streamed = minimum(asked.streamed_bytes / weights_bytes, 1.0) if asked.streamed_bytes else 0.0
    layers, experts = float(asked.layers), float(expert_layers(model, asked.experts))
    return _moved(
        model, replace(rules, cache=float(asked.cache), head=float(asked.head), streamed=streamed), layers, experts
    )


def engine_rules(engine: Engine, device: Device) -> Placement:
    """Nothing moved yet: only how `engine` treats weights that a host holds."""
    rules = read_packaged("offload.yaml")["copies"]
    copies = rules.get(engine.name) or rules.get(engine.kernels, {})
    pieces = float(copies.get("piece", pass_tokens(engine, device)))
    return Placement(copy_tokens=float(copies.get("rows", NEVER)), piece_tokens=pieces)


def _moved(model: Transformer, p: Placement, layers: Floats, experts: Floats) -> Placement:
    return replace(p, layers=layers / layer_count(model), experts=experts / max(expert_layers(model), 1))


def least_placement(model: Transformer, rules: Placement, fits: Callable[[Placement], Any]) -> Placement:
    """As little on the host as fits, at each point: experts of layer after layer, then whole layers; all of it if nothing does.

    `fits`: whether the device holds what a placement leaves on it; it does from some step on.
    """
    steps = _steps(model)

    def at(step: Floats) -> Placement:
        layers, experts = (number(np.take(column, np.asarray(step, dtype=int))) for column in steps.T)
        return _moved(model, rules, layers, experts)

    high = where(fits(at(0.0)), 0.0, float(len(steps) - 1))
    low = 0.0 * high
    while anywhere(low < high):
        middle = floor((low + high) / 2.0)
        ok = fits(at(middle))
        low, high = where(ok, low, minimum(middle + 1.0, high)), where(ok, middle, high)
    return at(high)


def _steps(model: Transformer) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(layers, layers whose experts) the host takes, in order."""
    layers, experts = layer_count(model), expert_layers(model)
    of_experts = [(0.0, float(n)) for n in range(experts + 1)]
    return np.array(of_experts + [(float(n), float(experts)) for n in range(1, layers + 1)])
