"""What a technique is: a change of the passes that a served model makes, with its parameters and what was checked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from waferline.arrays import Floats
from waferline.errors import InvalidInputError
from waferline.formats import Precision
from waferline.machines.device import Device
from waferline.workloads.operator import Operator
from waferline.workloads.scenario import Parallel, real
from waferline.workloads.spec import Transformer


@dataclass(frozen=True, slots=True)
class Step:
    """One pass while techniques change it.

    operators: of one device. layers: that the host launches. tokens: that each sequence gains, expected; a decode step gains 1.
    host_s: seconds that the device waits for the host beside what the engine's constants say.
    """

    operators: Sequence[Operator]
    layers: float
    tokens: Floats = 1.0
    host_s: Floats = 0.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What a technique may look at: the model, the engine by name, formats and degrees, and the pass itself.

    batch: sequences of one replica in a pipeline stage. context: tokens that each attends to, in decode at the middle of the
    answer; prompt: tokens of the prompt, in either pass, of which `cached` are in the cache before.
    """

    model: Transformer
    device: Device
    engine: str
    precision: Precision
    parallel: Parallel
    batch: Floats
    prompt: Floats
    context: Floats
    memory: Floats = 0.0
    cached: Floats = 0.0


Given = Mapping[str, Any]  # parameters of a technique, each with a value
Change = Callable[[Step, Setting, Given], Step]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter: what it is called in words, its usual value, and how text becomes a value.

    default: None where it must be given; `absent` stands for a value that may be left out.
    """

    meaning: str
    default: Any = None
    least: float = 0.0
    most: float = float("inf")
    words: Sequence[str] = ()  # what it may say, where it is a word
    optional: bool = False
    text: bool = False  # any text: the name of a model

    def value(self, owner: str, name: str, given: Any) -> Any:
        """The value that was given. Raises: InvalidInputError naming the technique, the parameter and what it may be."""
        if self.text:
            return str(given)
        if self.words:
            if given not in self.words:
                raise InvalidInputError(f"{owner}: {name} is {', '.join(self.words)}, not {given!r}")
            return given
        try:
            number = float(given)
        except ValueError:
            raise InvalidInputError(f"{owner}: {name} is a number, not {given!r}") from None
        return float(real(f"{owner}: {name}", number, least=self.least, most=self.most))


@dataclass(frozen=True, slots=True)
class Technique:
    """One technique: what it changes, and how far that is known.

    prefill, decode: what happens to either pass. arguments: what happens to what is asked before (`cached` tokens, a KV format).
    replaces: what "not modelled" no longer says when it is asked for. cycle: positions that a decode pass works on and tokens that
    it yields. server: options of a simulated server that it sets; unserved: why requests are not simulated with it.
    """

    title: str
    parameters: Mapping[str, Parameter]
    source: str
    limits: str
    checked: str
    prefill: Change | None = None
    decode: Change | None = None
    kv: Callable[[Given], str] | None = None  # the format it keeps the cache in
    cached: Callable[[Given], float] | None = None  # the share of the prompt that is in the cache already
    weights: Callable[[Setting, Given], Floats] | None = None  # bytes it adds to each device
    replaces: str = ""
    cycle: Callable[[Given], tuple[float, float]] | None = None
    server: Callable[[Given], Mapping[str, Any]] | None = None
    unserved: str = ""


@dataclass(frozen=True)
class Applied:
    """A technique with its parameters, as somebody asked for it."""

    name: str
    technique: Technique = field(repr=False)
    given: Given = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, tuple(sorted((k, str(v)) for k, v in self.given.items()))))

    def said(self) -> str:
        """It in words, as it would be typed."""
        shown = ",".join(
            f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.given.items() if v is not None
        )
        return f"{self.name}:{shown}" if shown else self.name
