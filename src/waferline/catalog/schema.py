"""A file checked against a pydantic schema, with the one-line error of the house instead of pydantic's."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from waferline.errors import FileFormatError, nearest

_Schema = TypeVar("_Schema", bound=BaseModel)


def checked(schema: type[_Schema], data: object, where: str) -> _Schema:
    """`data` as a `schema`.

    Raises: FileFormatError naming `where`, the key, the value and the nearest valid key. Misspelt keys come first, since
    they explain missing ones.
    """
    if not isinstance(data, dict):
        raise FileFormatError(f"expected a mapping of keys, found {type(data).__name__}", where=where)
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    message, hint = _one_error(schema, dict(errors[0]))
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise FileFormatError(message + more, where=where, hint=hint)


def _one_error(schema: type[BaseModel], error: dict[str, Any]) -> tuple[str, str | None]:
    """One pydantic error as (message, hint)."""
    location, kind = error["loc"], error["type"]
    if kind == "extra_forbidden" or "[key]" in location:
        parts = [part for part in location if part != "[key]"]
        valid = _valid_keys(schema, parts[:-1])
        close = nearest(str(parts[-1]), valid)
        hint = f"did you mean {close[0]}?" if close else "valid keys: " + ", ".join(valid)
        return f"unknown key '{_place(parts)}'", hint
    if kind == "missing":
        return f"missing key '{_place(location)}'", None
    text = error["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return text, None
    given = error.get("input")
    shown = f", got {given!r}" if isinstance(given, str | int | float | bool) else ""
    return f"{_place(location)}: {text[0].lower()}{text[1:]}{shown}", None


def _valid_keys(annotation: Any, path: list[Any]) -> tuple[str, ...]:
    """The keys that are valid at `path` in a schema: fields of a model there, or the names a mapping's keys may have."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            return tuple(annotation.model_fields)
        field = annotation.model_fields.get(str(path[0]))
        return _valid_keys(field.annotation, path[1:]) if field else ()
    inner = [a for a in get_args(annotation) if a is not type(None)]
    if inner and all(isinstance(a, str) for a in inner):
        return tuple(inner)  # a Literal
    steps = path[1:] if path and isinstance(path[0], int) else path
    found = (_valid_keys(a, steps) for a in inner)
    return next((keys for keys in found if keys), ())


def _place(location: Any) -> str:
    """`('memory', 1, 'capacity_bytes')` as `memory[1].capacity_bytes`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text
