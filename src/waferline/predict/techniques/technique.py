"""What a technique is: a change of the passes that a served model makes, with its parameters and what was checked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from waferline.arrays import Floats
from waferline.errors import InvalidInputError, UnsupportedError
from waferline.formats import Precision
from waferline.machines.device import Device
from waferline.workloads.operator import Operator
from waferline.workloads.scenario import Parallel, real
from waferline.workloads.spec import ModelSpec, Transformer


@dataclass(frozen=True, slots=True)
class Step:
    """One pass while techniques change it.

    operators: of one device. layers: that the host launches. tokens: that each sequence gains, expected; a decode step gains 1.
    host_s: seconds that the device waits for the host beside what the engine's constants say. helping: layers of a model that
    helps (`helps`), among `layers`.
    """

    operators: Sequence[Operator]
    layers: float
    tokens: Floats = 1.0
    host_s: Floats = 0.0
    helping: float = 0.0


def helps(op: Operator) -> bool:
    """Whether an operator is of a model beside the one that is served: what changes the served one leaves it alone."""
    return op.name.startswith(("draft.", "auxiliary.", "predictor"))


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
    whole: bool = False  # counts something

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
        number = float(real(f"{owner}: {name}", number, least=self.least, most=self.most))
        if self.whole and number % 1.0:
            raise InvalidInputError(f"{owner}: {name} is a whole number, not {given!r}")
        return number


@dataclass(frozen=True, slots=True)
class Technique:
    """One technique: what it changes, and how far that is known.

    prefill, decode: what happens to either pass. kv, cached, weights: what happens to what is asked before. replaces: what "not
    modelled" no longer says when it is asked for. refuses: why it can change nothing of a model on a machine; empty where it can.
    own_units: units of the device do it, which a host beside it has not. one_pass: what it makes of the operators of a network that
    makes one pass; without it such a network does not take it. machine: the device as it makes it.
    anew: it makes the pass anew, so that it comes before those that change operators, wherever it was named. cycle: positions that
    a decode pass works on and tokens that it yields. server: options of a simulated server that it sets; unserved: why requests are
    not simulated with it.
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
    refuses: Callable[[Any, Device], str] | None = None  # of any model where a network of one pass takes it
    own_units: bool = False
    anew: bool = False
    cycle: Callable[[Given], tuple[float, float]] | None = None
    server: Callable[[Given], Mapping[str, Any]] | None = None
    unserved: str = ""
    one_pass: Callable[[Sequence[Operator], Given], Sequence[Operator]] | None = None
    machine: Callable[[Device, Given], Device] | None = None


@dataclass(frozen=True)
class Applied:
    """A technique with its parameters, as somebody asked for it."""

    name: str
    technique: Technique = field(repr=False)
    given: Given = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, tuple(sorted((k, str(v)) for k, v in self.given.items()))))

    def check(self, model: ModelSpec, device: Device) -> None:
        """Raises: UnsupportedError where it can change nothing of this model on this machine."""
        why = self.technique.refuses(model, device) if self.technique.refuses else ""
        if why:
            raise UnsupportedError(f"{self.name}: {why}")

    def clashes(self, other: Applied) -> bool:
        """Whether both would change the same thing: two drafters, two modes of execution, two ways to pass a prompt."""
        a, b = self.technique, other.technique
        same = [
            (a.replaces, b.replaces),
            (a.decode, b.decode),
            (a.anew and a.prefill is not None, b.anew and b.prefill is not None),
        ]
        return self.name == other.name or any(one and one == two for one, two in same)

    def said(self) -> str:
        """It in words, as it would be typed."""
        shown = ",".join(
            f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.given.items() if v is not None
        )
        return f"{self.name}:{shown}" if shown else self.name
