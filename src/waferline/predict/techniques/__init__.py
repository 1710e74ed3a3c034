"""Published techniques on any model and machine: `--with NAME[:key=value,...]`. One table of them, and how they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import Any

from waferline.errors import InvalidInputError, unknown
from waferline.machines.device import Device
from waferline.predict.techniques.attention import ATTENTION
from waferline.predict.techniques.caching import CACHING
from waferline.predict.techniques.look_up import LOOK_UP
from waferline.predict.techniques.schedule import SCHEDULE
from waferline.predict.techniques.speculative import SPECULATIVE
from waferline.predict.techniques.technique import Applied, Parameter, Setting, Step, Technique
from waferline.predict.techniques.weights import WEIGHTS
from waferline.text import told
from waferline.workloads.spec import ModelSpec

TECHNIQUES: Mapping[str, Technique] = {**SPECULATIVE, **CACHING, **ATTENTION, **WEIGHTS, **LOOK_UP, **SCHEDULE}

__all__ = [
    "OFFLOAD",
    "TECHNIQUES",
    "Applied",
    "Parameter",
    "Setting",
    "Step",
    "Technique",
    "applied",
    "changed",
    "of_one_pass",
    "on_machine",
    "without_offload",
]


NONE = "none"  # of an axis of a sweep, beside techniques
OFFLOAD = "offload"  # asked for among techniques, done by the option of that name


def without_offload(asked: Any) -> tuple[tuple[str, ...], str | None]:
    """Techniques as texts, and what `offload:...` among them says, if it is there. Raises: InvalidInputError for two of them."""
    texts = [asked] if isinstance(asked, str) else asked
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        return asked, None  # `applied` says what is wrong
    parts = [part.strip() for text in texts for part in text.split("+")]
    found = [part.partition(":")[2] or "auto" for part in parts if part.partition(":")[0] == OFFLOAD]
    if len(found) > 1:
        raise InvalidInputError("offload is asked for twice")
    return tuple(part for part in parts if part.partition(":")[0] != OFFLOAD), found[0] if found else None


def applied(asked: Any) -> tuple[Applied, ...]:
    """What was asked for, in its order: a text (`name:key=value,...`, several joined by `+`; `none`), or a list of such texts.

    Raises: UnknownNameError, InvalidInputError naming the technique, the parameter and the nearest valid.
    """
    if asked is None:
        return ()
    texts = [asked] if isinstance(asked, str) else asked
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise InvalidInputError(f"techniques are texts such as 'prefix-cache:hit=0.5', not {told(asked)}")
    return () if not texts or list(texts) == [NONE] else _applied("+".join(texts))


def changed(asked: Sequence[Applied], phase: str, step: Step, setting: Setting) -> Step:
    """A pass (`prefill` or `decode`) as techniques leave it: those that make it anew first, else as they were asked for."""
    for one in sorted(asked, key=lambda one: not one.technique.anew):
        change = getattr(one.technique, phase)
        step = step if change is None else change(step, setting, one.given)
    return step


def on_machine(asked: Sequence[Applied], device: Device) -> Device:
    """The machine as techniques make it."""
    for one in asked:
        device = device if one.technique.machine is None else one.technique.machine(device, one.given)
    return device


def of_one_pass(asked: Sequence[Applied], model: ModelSpec, device: Device) -> None:
    """Raises: InvalidInputError for a technique that a network of one pass does not take, UnsupportedError as `Applied.check`."""
    for one in asked:
        if one.technique.one_pass is None:
            fit = ", ".join(name for name, technique in TECHNIQUES.items() if technique.one_pass)
            raise InvalidInputError(f"{one.name}: {model.name} makes one pass, which takes {fit} alone")
        one.check(model, device)


@cache
def _applied(text: str) -> tuple[Applied, ...]:
    found = tuple(_one(part.strip()) for part in text.split("+"))
    for one, other in combinations(found, 2):
        if one.clashes(other):
            twice = f"{one.name} twice" if one.name == other.name else f"{one.name} and {other.name}"
            raise InvalidInputError(f"{twice}: both would change the same thing", hint="ask for one of them")
    return found


def _one(text: str) -> Applied:
    name, _, rest = text.partition(":")
    name = name.strip().lower()
    if name not in TECHNIQUES:
        raise unknown("technique", name, [*TECHNIQUES, OFFLOAD])
    technique = TECHNIQUES[name]
    given: dict[str, Any] = {}
    for part in (p.strip() for p in rest.split(",")) if rest else ():
        key, equals, value = (x.strip() for x in part.partition("="))
        if not equals and not given and technique.parameters:  # a bare value is the first parameter's
            key, value = next(iter(technique.parameters)), key
        if not value:
            raise InvalidInputError(f"{name}: '{part}' is not of the form key=value")
        if key not in technique.parameters:
            raise unknown(f"parameter of {name}", key, technique.parameters)
        if key in given:
            raise InvalidInputError(f"{name}: {key} is given twice")
        given[key] = technique.parameters[key].value(name, key, value)
    for key, parameter in technique.parameters.items():
        if parameter.default is None and not parameter.optional and key not in given:
            raise InvalidInputError(f"{name}: {key} must be given: {parameter.meaning}")
    return Applied(
        name, technique, {key: given.get(key, p.default) for key, p in technique.parameters.items()} | _exclusive(given)
    )


def _exclusive(given: Mapping[str, Any]) -> dict[str, Any]:
    """A length that is said replaces the share it would follow from. Raises: InvalidInputError where both are given."""
    if "accepted" in given and "acceptance" in given:
        raise InvalidInputError("give acceptance or accepted, not both")
    return {"acceptance": None} if "accepted" in given else {}
