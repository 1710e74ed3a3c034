"""The model-machine pairs of a sweep, loaded, and every combination of choices tried at one point before anything is solved."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from waferline.encode import dumps
from waferline.errors import DoesNotFitError, InvalidInputError, UnsupportedError, unknown
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.search.study_file import Sweep
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

    def scenario(self, todo: Sweep, choice: Mapping[str, Any]) -> Scenario:
        """What every point of the grid asks with this choice."""
        bounds = any("_low" in name or "_high" in name for name in todo.fields)
        shared = {**todo.fixed, **choice, "profile": todo.profile, "intervals": bounds}
        return Scenario(model=self.spec, machine=self.device, **shared)

    def part(self, out: Path, todo: Sweep, number: int) -> Path:
        """Where points of the pair are kept: other contents, another grid or another version have another name."""
        axes = {name: values.tolist() for name, values in todo.numbers.items()}
        contents = [__version__, self.spec, self.device, todo.choices, todo.fixed, todo.profile]
        asked = dumps([self.model, self.machine, number, axes, todo.fields, contents], indent=None)
        key = hashlib.sha256(asked.encode()).hexdigest()[:_KEY_DIGITS]
        return out.parent / f".{out.name[:100]}.{key}.part"


@dataclass(frozen=True, slots=True)
class Answered:
    """What has an answer: the choices of every pair, and for every field what stands where a machine has none."""

    choices: Sequence[tuple[Pair, Sequence[Mapping[str, Any]]]]
    missing: Mapping[str, float | str]
    refused: Mapping[str, str]  # what has no answer, and why


def pairs_of(todo: Sweep) -> list[Pair]:
    """Every pair, loaded. Raises: the typed errors of a name or file that is wrong, before anything is solved."""
    models = [(name, load_model(name)) for name in todo.models]
    machines = [(name, load_hardware(name)) for name in todo.machines]
    return [Pair(model, machine, spec, device) for model, spec in models for machine, device in machines]


def tried(todo: Sweep, pairs: Sequence[Pair], done: Callable[[int], None] = lambda n: None) -> Answered:
    """Every pair and choice, tried at the first point: a degree or format that cannot be is refused there, not at the end.

    Raises: UnknownNameError for a field that no answer has and for names that nobody knows; InvalidInputError where a machine
    would be picked by all points at once.
    """
    if "auto" in (todo.fixed.get("devices"), *todo.choices.get("devices", ())):
        raise InvalidInputError(
            "devices: auto is the smallest group of one point", hint="a sweep lists them: tp: [1, 2, 4]"
        )
    first: dict[str, Any] = {name: values[:1] for name, values in todo.numbers.items()}
    refused: dict[str, str] = {}
    found: list[tuple[Pair, list[dict[str, Any]]]] = []
    kinds: dict[str, str] = {}
    for pair in pairs:
        answered = []
        for choice in todo.combinations():
            try:
                result = run(replace(pair.scenario(todo, choice), **first)).result
            except (UnsupportedError, InvalidInputError, DoesNotFitError) as error:
                refused[_named(pair, choice)] = str(error)
                continue
            answered.append(choice)
            kinds |= {name: result.values[name].dtype.kind for name in todo.fields if name in result.values}
        found += [(pair, answered)] if answered else []
        done(1)
    for name in todo.fields:
        if found and name not in kinds:
            raise unknown("field", name, result_fields(todo, found[0]))
    return Answered(found, {name: "" if kind == "U" else math.nan for name, kind in kinds.items()}, refused)


def result_fields(todo: Sweep, answered: tuple[Pair, Sequence[Mapping[str, Any]]]) -> list[str]:
    """The fields that the answers of a pair have."""
    pair, choices = answered
    return list(run(pair.scenario(todo, choices[0])).result.values)


def _named(pair: Pair, choice: Mapping[str, Any]) -> str:
    parts = [f"{pair.model} on {pair.machine}", *(f"{name} {value}" for name, value in choice.items())]
    return ", ".join(parts)
