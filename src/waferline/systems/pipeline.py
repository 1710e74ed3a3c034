"""`Pipeline`: models one after the other, each given what those before it answered, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from waferline.errors import InvalidInputError
from waferline.predict.result import Field, Result


class ForwardModel(Protocol):
    """Anything with a `solve` whose parameters have names: every model of this package, and your own."""

    @property
    def solve(self) -> Callable[..., Any]: ...


Callback = Callable[[str, Any], None]  # told the model's name and its answer, as soon as there is one


class Pipeline:
    """`Pipeline([ScalingModel(), DistributedModel()]).run(compute_budget="1e22 flop", ...)`: a chain by result names."""

    def __init__(self, models: Sequence[ForwardModel], callbacks: Sequence[Callback] = ()) -> None:
        if not models:
            raise InvalidInputError("a pipeline has at least one model")
        self.models = tuple(models)
        self.callbacks = list(callbacks)

    def run(self, **inputs: Any) -> dict[str, Any]:
        """Every answer by the name of its model. An argument is an input of that name, or a field of an answer before.

        Raises: InvalidInputError for an argument that nothing gives, or an input that nothing reads.
        """
        known, answers = dict(inputs), dict[str, Any]()
        read: set[str] = set()
        for model in self.models:
            name = type(model).__name__
            wanted = _parameters(model)
            missing = [p for p, required in wanted.items() if required and p not in known]
            if missing:
                raise InvalidInputError(
                    f"{name} needs {', '.join(missing)}: no input and no answer before it has that name"
                )
            given = {p: known[p] for p in wanted if p in known}
            read |= given.keys()
            answers[name] = answer = model.solve(**given)
            known = {**_fields(answer), **known}
            for callback in self.callbacks:
                callback(name, answer)
        unread = inputs.keys() - read
        if unread:
            raise InvalidInputError(f"no model of the pipeline reads {', '.join(sorted(unread))}")
        return answers

    def explain(self) -> str:
        """What each model needs and may be given, as text."""
        lines = []
        for i, model in enumerate(self.models, start=1):
            wanted = _parameters(model)
            needs = ", ".join(p for p, required in wanted.items() if required) or "nothing"
            lines.append(
                f"{i}. {type(model).__name__} needs {needs}; may take {', '.join(p for p, r in wanted.items() if not r)}"
            )
        return "\n".join(lines)


def _parameters(model: ForwardModel) -> dict[str, bool]:
    """Name → whether it must be given."""
    return {
        name: p.default is p.empty
        for name, p in inspect.signature(model.solve).parameters.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }


def _fields(answer: Any) -> Mapping[str, Any]:
    """What an answer gives to the models after it: its values, and its declared fields as bare numbers."""
    if not isinstance(answer, Result):
        return {}
    declared = {name: answer[f.key] for name, f in _declared(type(answer)).items() if f.key in answer}
    return {**declared, **dict(answer.values)}


def _declared(kind: type) -> dict[str, Field]:
    return {n: f for c in reversed(kind.__mro__) for n, f in vars(c).items() if isinstance(f, Field)}
