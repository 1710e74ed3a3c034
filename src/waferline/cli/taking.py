"""Commands that take many options as one argument: a table or a record whose every field becomes an option of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import wraps
from typing import Any, NamedTuple, get_type_hints

Command = Callable[..., None]


class Options(NamedTuple):
    """Options by the name that they are given to `made` under: (what typer is told of each, its default)."""

    rows: Mapping[str, tuple[Any, Any]]
    made: Callable[..., Any]


def of_record(record: type) -> Options:
    """The fields of a dataclass, each annotated with its option."""
    types = get_type_hints(record, include_extras=True)
    return Options({f.name: (types[f.name], f.default) for f in fields(record) if f.default is not MISSING}, record)


def taking(**groups: Options) -> Callable[[Command], Command]:
    """A command whose arguments of these names stand for many options."""

    def changed(command: Command) -> Command:
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for name, own in inspect.signature(command).parameters.items():
            rows = groups[name].rows if name in groups else {name: (hints[name], own.default)}
            parameters += [
                inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
                for each, (kind, default) in rows.items()
            ]

        @wraps(command)
        def called(**given: Any) -> None:
            made = {
                name: group.made(**{each: given.pop(each) for each in group.rows}) for name, group in groups.items()
            }
            command(**given, **made)

        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in parameters}
        return called

    return changed
