"""The door of the package: what is called through `waferline` is checked against its own signature, and ends in typed errors.

`waferline.__getattr__` leads every public function and class through `admit`, and what these answer with goes the same way.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, wraps
from itertools import chain, repeat
from typing import Any, Literal, NamedTuple, TypeVar, Union

import numpy as np

from waferline.errors import InvalidInputError, WaferlineError, typed
from waferline.text import told

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)
_MOST_WHOLE = 1 << 63  # no count, size or seed is larger
_ADMITTED = set[type]()
_RECORDS = set[type]()  # that only hold what they are given, until something reads them


class _Kind(NamedTuple):
    text: str
    accepts: Callable[[Any], bool]


def admit(value: Any) -> Any:
    """A public function, checked; a class whose public functions are from now on. Everything else as it is."""
    if inspect.isclass(value):
        _admit_class(value)
        if is_dataclass(value) and not hasattr(value, "__post_init__"):
            _RECORDS.add(value)
    return checked(value) if inspect.isfunction(value) else value


def _admit_class(cls: type) -> None:
    if cls in _ADMITTED:
        return
    _ADMITTED.add(cls)
    for base in cls.__mro__:
        if not base.__module__.startswith("waferline.") or issubclass(base, BaseException):
            continue
        for name, member in list(vars(base).items()):
            private = name.startswith("_") and name != "__getitem__"
            if name == "__init__":  # a record's own checks nothing
                private = is_dataclass(base) and not hasattr(base, "__post_init__")
            wrapped = member.__func__ if isinstance(member, staticmethod) else member  # which have one of their own
            if private or hasattr(wrapped, "__wrapped__"):
                continue
            if inspect.isfunction(member):
                setattr(base, name, checked(member))
            elif isinstance(member, staticmethod):
                setattr(base, name, staticmethod(checked(wrapped)))


def checked(function: F) -> F:
    """`function`, whose arguments are of the kinds that its signature says, and whose errors are typed."""

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        positional, kinds = _signature(function)
        for name, value in chain(zip(positional(), args, strict=False), kwargs.items()):
            _check(name, value, kinds)
            record: Any = type(value)
            if record in _RECORDS:
                for field, kind in _fields(record).items():
                    _check(field, getattr(value, field), {field: kind})
        try:
            answer = function(*args, **kwargs)
        except WaferlineError:
            raise
        except TypeError as error:
            if "argument" in str(error) and _misses(function, args, kwargs, error):
                raise InvalidInputError(str(error)) from error
            raise typed(error) from error
        except Exception as error:
            raise typed(error) from error
        if type(answer).__module__.startswith("waferline."):
            _admit_class(type(answer))
        return answer

    return called  # type: ignore[return-value]


def _check(name: str, value: Any, kinds: Mapping[str, _Kind]) -> None:
    if name in kinds and not kinds[name].accepts(value):
        raise InvalidInputError(f"{name} must be {kinds[name].text}, got {told(value)}")


def _misses(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], error: TypeError) -> bool:
    """Whether a call names an argument that is none, or lacks one; `**options` may be handed on to where that shows."""
    if "unexpected keyword argument" in str(error):
        return True
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return True
    return False


@cache
def _signature(function: Any) -> tuple[Callable[[], Iterator[str]], dict[str, _Kind]]:
    """How to name positional arguments, and the kind of each argument that has one."""
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "")
    hints = {p.name: p.annotation for p in parameters if p.kind is not p.VAR_KEYWORD}
    return lambda: chain(names, repeat(rest)), _kinds(hints, function.__module__)


@cache
def _fields(record: Any) -> dict[str, _Kind]:
    return _kinds({f.name: f.type for f in fields(record)}, record.__module__)


def _kinds(hints: Mapping[str, Any], module: str) -> dict[str, _Kind]:
    scope = {**vars(typing), **vars(sys.modules[module])}
    kinds = {name: _kind(_hint(hint, scope)) for name, hint in hints.items()}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _hint(annotation: Any, scope: Mapping[str, Any]) -> Any:
    try:
        return eval(annotation, dict(scope)) if isinstance(annotation, str) else annotation
    except Exception:  # a type that is imported for type checkers only
        return Any


def _number(value: Any) -> bool:
    if isinstance(value, int | np.integer):  # a bool is an int, and NumPy's spans of time are integers
        return not isinstance(value, bool | np.timedelta64) and -_MOST_WHOLE < int(value) < _MOST_WHOLE
    return isinstance(value, float | np.floating) and bool(value == value)


_PLAIN: dict[Any, _Kind] = {
    str: _Kind("text", lambda v: isinstance(v, str)),
    bool: _Kind("true or false", lambda v: isinstance(v, bool | np.bool_)),
    int: _Kind("a whole number", lambda v: _number(v) and isinstance(v, int | np.integer)),
    float: _Kind("a number", _number),
    None: _Kind("None", lambda v: v is None),
    types.NoneType: _Kind("None", lambda v: v is None),
    np.ndarray: _Kind("an array", lambda v: isinstance(v, np.ndarray) and not np.ma.is_masked(v)),
}


def _kind(hint: Any) -> _Kind | None:
    """What a type hint says of a value, where it can be told from the value; None where it says nothing."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint in (Any, inspect.Parameter.empty):
        return None
    if origin in (Union, types.UnionType):
        kinds = [_kind(part) for part in inside]
        known = [k for k in kinds if k is not None]
        text = " or ".join(k.text for k in known)
        return _Kind(text, lambda v: any(k.accepts(v) for k in known)) if len(known) == len(kinds) else None
    if origin is Literal:
        return _Kind(f"one of {', '.join(map(str, inside))}", lambda v: isinstance(v, str) and v in inside)
    base = origin or hint
    if base in _PLAIN:
        return _PLAIN[base]
    if not inspect.isclass(base):
        return None
    if getattr(base, "_is_protocol", False):
        names = [name for name in dir(base) if not name.startswith("_")]
        return _Kind(f"something with {', '.join(names)}", lambda v: all(hasattr(v, name) for name in names))
    if base is Iterable:
        return _Kind("a list", _iterates)
    if issubclass(base, Mapping):
        kinds = [_kind(part) for part in inside]
        text = "a mapping of " + " to ".join(k.text if k else "anything" for k in kinds) if kinds else "a mapping"
        return _of_parts(text, base, kinds, lambda v: zip(*v.items(), strict=True))
    if issubclass(base, Sequence):
        part = _kind(inside[0]) if inside else None
        return _of_parts(f"a list of {part.text}" if part else "a list", Sequence, [part], lambda v: [v])
    return _Kind(f"a {base.__name__}", lambda v: isinstance(v, base))


def _iterates(value: Any) -> bool:
    try:
        return iter(value) is not None
    except Exception:  # a quantity says that it iterates, and does not
        return False


def _of_parts(text: str, base: type, kinds: Sequence[_Kind | None], columns: Callable[[Any], Any]) -> _Kind:
    """A collection whose parts have kinds of their own."""

    def accepts(value: Any) -> bool:
        if not isinstance(value, base) or isinstance(value, str | bytes | bytearray):
            return False
        parts = zip(kinds, columns(value), strict=False)
        return all(kind is None or all(kind.accepts(v) for v in column) for kind, column in parts)

    return _Kind(text, accepts)
