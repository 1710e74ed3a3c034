"""The model-machine pairs of a sweep, loaded and tried at one point each before anything is solved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waferline.encode import dumps
from waferline.errors import UnsupportedError, unknown
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.serving import ServingModel
from waferline.search.study_file import LABEL_AXES, Sweep
from waferline.version import __version__
from waferline.workloads.load import load_model
from waferline.workloads.spec import ModelSpec

_KEY_DIGITS = 16  # of the hash that ties a part to what was asked


@dataclass(frozen=True, slots=True)
class Pair:
    """A model and a machine as they are named in the sweep, and as they were when it began."""

    model: str
    machine: str
    spec: ModelSpec
    device: Device

    def arguments(self, todo: Sweep) -> dict[str, Any]:
        """What every point of the pair shares, as keywords of `ServingModel.solve`."""
        shared = {"engine": todo.engine, "kv": todo.kv, "profile": todo.profile}
        return {"model": self.spec, "hardware": self.device, **shared}

    def part(self, out: Path, todo: Sweep) -> Path:
        """Where the pair's points are kept: other contents, another grid or another version have another name."""
        axes = {name: values.tolist() for name, values in todo.axes.items()}
        contents = [__version__, self.spec, self.device, todo.engine, todo.kv, todo.profile]
        asked = dumps([self.model, self.machine, axes, todo.fields, contents], indent=None)
        key = hashlib.sha256(asked.encode()).hexdigest()[:_KEY_DIGITS]
        return out.with_name(f".{out.name[:100]}.{key}.part")


def pairs_of(todo: Sweep) -> list[Pair]:
    """Every pair, loaded. Raises: the typed errors of a name or file that is wrong, before anything is solved."""
    models = [(name, load_model(name)) for name in todo.models]
    machines = [(name, load_hardware(name)) for name in todo.machines]
    return [Pair(model, machine, spec, device) for model, spec in models for machine, device in machines]


def tried(
    todo: Sweep, pairs: Sequence[Pair], done: Callable[[int], None] = lambda n: None
) -> tuple[list[Pair], Mapping[str, str]]:
    """The pairs that have an answer, tried at the first point and every label, and why the others have none.

    Raises: UnknownNameError for a field that no pair has, and what the first point of a pair raises but refusals.
    """
    few = {name: values if name in LABEL_AXES else values[:1] for name, values in todo.axes.items()}
    answered, refused, fields = [], {}, set()
    for pair in pairs:
        try:
            result = ServingModel().solve(**(pair.arguments(todo) | few))
        except UnsupportedError as error:
            refused[f"{pair.model} on {pair.machine}"] = str(error)
        else:
            answered.append(pair)
            fields |= set(result.values)
        done(1)
    for name in todo.fields:
        if answered and name not in fields:
            raise unknown("field", name, fields)
    return answered, refused


def points_in(todo: Sweep) -> int:
    """Points of the grid of one pair."""
    return int(np.prod([values.size for values in todo.axes.values()], dtype=object))
