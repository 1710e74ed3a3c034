"""What a page asks, from the query of its URL: names of the catalogue and numbers, never a path of this machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from waferline.errors import InvalidInputError, unknown
from waferline.machines.hardware import resolve_hardware
from waferline.predict.scenario import Scenario
from waferline.text import is_count
from waferline.workloads.models import find_model
from waferline.workloads.spec import ModelSpec

MOST_TEXT = 200  # characters of one value


@dataclass(frozen=True, slots=True)
class Control:
    """One input of a form. kind: text, count, model, machine, or a choice of `choices`; option: of the command line."""

    name: str
    label: str
    kind: str = "text"
    value: str = ""
    choices: tuple[str, ...] = ()
    option: str = ""
    more: bool = False  # behind "more options"
    hint: str = ""


MODEL = Control("model", "Model", "model", "llama-3-8b")
MACHINE = Control("on", "Machine", "machine", "h100", option="--on")
PRECISION = Control("precision", "Precision", option="--precision", hint="fp8, int4, q4_k_m")
BATCH = Control("batch", "Batch", "count", "8", option="--batch")
PROMPT = Control("prompt", "Prompt tokens", "count", "2048", option="--prompt")
OUTPUT = Control("output", "Output tokens", "count", "256", option="--output")
DEVICES = Control("devices", "Devices", "count", option="--devices", hint="one")
SCENARIO = (
    MODEL, MACHINE, PRECISION, BATCH, PROMPT, OUTPUT, DEVICES,
    Control("tp", "Tensor parallel", "count", option="--tp", more=True),
    Control("pp", "Pipeline parallel", "count", option="--pp", more=True),
    Control("ep", "Expert parallel", "count", option="--ep", more=True),
    Control("dp", "Replicas", "count", option="--dp", more=True),
    Control("kv", "KV cache format", option="--kv", more=True, hint="such as fp8"),
    Control("engine", "Engine", option="--engine", more=True, hint="such as vllm, trt-llm, llama.cpp"),
    Control("load", "Load", option="--load", more=True, hint="such as static"),
    Control("offload", "Offload", option="--offload", more=True),
    Control("host", "Host", "machine", option="--host", more=True),
    Control("techniques", "Techniques", option="--with", more=True, hint="such as eagle3 or h2o:keep=0.2"),
)  # fmt: skip


def values_of(controls: Sequence[Control], query: Mapping[str, str]) -> dict[str, str]:
    """The text of every control: what the URL says, else what the form begins with.

    Raises: UnknownNameError for a name that no control has, InvalidInputError for a text that nobody types.
    """
    names = [c.name for c in controls]
    for name, text in query.items():
        if name not in names:
            raise unknown("input", name, names)
        if len(text) > MOST_TEXT:
            raise InvalidInputError(f"{name} is longer than {MOST_TEXT} characters")
    return {c.name: query.get(c.name, c.value).strip() for c in controls}


def count(name: str, text: str) -> int | None:
    """A whole number above 0. Raises: InvalidInputError."""
    if not text:
        return None
    if not is_count(text) or int(text) < 1:
        raise InvalidInputError(f"{name} is a whole number above 0, not '{text}'")
    return int(text)


def model_named(text: str) -> str:
    """The catalogue's name of a model. Raises: UnknownNameError, also for what only looks like a path."""
    return find_model(text)


def scenario_of(values: Mapping[str, str], model: ModelSpec | None = None) -> Scenario:
    """The question itself. model: one that came as a file instead of by its name. Raises: as the fields' own doors."""
    asked: dict[str, Any] = {}
    for control in SCENARIO:
        text = values.get(control.name, "")
        if text and control.name not in ("model", "on"):
            asked[control.name] = _READ.get(control.kind, _text)(control.name, text)
    scenario = Scenario(model=model or model_named(values["model"]), machine=None, **asked)
    return replace(scenario, machine=resolve_hardware(values["on"])) if values.get("on") else scenario


def _text(_: str, text: str) -> str:
    return text


_READ = {"count": count, "machine": lambda _, text: resolve_hardware(text)}


def command(verb: str, values: Mapping[str, str], controls: Sequence[Control] = SCENARIO) -> str:
    """The command line that answers the same."""
    given = [(c.option, values[c.name]) for c in controls if c.option and values.get(c.name)]
    return shlex.join(["waferline", *verb.split(), values.get("model", ""), *(part for pair in given for part in pair)])


def python(values: Mapping[str, str]) -> str:
    """The lines of Python that answer the same."""
    return f"import waferline as wl\n\nanswer = wl.run({spelled('wl.Scenario', values, SCENARIO, on='machine')})"


def spelled(call: str, values: Mapping[str, str], controls: Sequence[Control], **names: str) -> str:
    """A call of Python with what `controls` were given. names: of arguments that are called otherwise than their control."""
    parts = [
        f"{names.get(c.name, c.name)}={text if c.kind == 'count' else repr(text)}"
        for c in controls
        if (text := values.get(c.name))
    ]
    return f"{call}({', '.join(parts)})"
