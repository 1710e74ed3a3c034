"""`--input-shape name=1x3x224x224,other=1x128`: sizes of the inputs whose file leaves them open."""

from __future__ import annotations

import re
from collections.abc import Mapping

from waferline.errors import InvalidInputError, unknown

_SHAPE = re.compile(r"^\d{1,9}(x\d{1,9})*$")

Dimensions = Mapping[str, tuple[int | str, ...]]  # of each input: a size, or the name of one that is open


def input_shapes(
    text: str | None, inputs: Dimensions, where: str
) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """The shape of each input, and notes on what was assumed: an open first size is a batch of one.

    Raises: InvalidInputError for text that is no shape, for one that contradicts the file, and for sizes left open;
    UnknownNameError for an input that the file does not have.
    """
    asked = _read(text, inputs, where)
    shapes: dict[str, tuple[int, ...]] = {}
    notes: list[str] = []
    sizes: dict[str, int] = {}
    for name, given in asked.items():
        declared = inputs[name]
        if len(declared) != len(given) or any(
            isinstance(d, int) and d != g for d, g in zip(declared, given, strict=True)
        ):
            raise InvalidInputError(f"input '{name}' is {shown_shape(declared)}, not {shown_shape(given)}", where=where)
        sizes |= {d: g for d, g in zip(declared, given, strict=True) if isinstance(d, str) and d}
        if declared and isinstance(declared[0], str) and given[0] > 1:
            notes.append(f"a sample is all of input '{name}', {shown_shape(given)}; --batch says how many of them")
    for name, declared in inputs.items():
        filled = tuple(sizes.get(d, d) if isinstance(d, str) else d for d in asked.get(name, declared))
        if filled and isinstance(filled[0], str) and not any(isinstance(d, str) for d in filled[1:]):
            filled = (1, *filled[1:])
            notes.append(f"input '{name}' is {shown_shape(declared)}: one at a time; --batch says how many")
        if any(isinstance(d, str) for d in filled):
            example = "x".join(str(d) if isinstance(d, int) else "?" for d in filled)
            raise InvalidInputError(
                f"input '{name}' is {shown_shape(declared)}: its sizes are open",
                where=where,
                hint=f"say them: --input-shape {name}={example}",
            )
        shapes[name] = tuple(d for d in filled if isinstance(d, int))
    return shapes, tuple(notes[:1])


def shapes_of(text: str) -> list[tuple[int, ...]]:
    """The shapes of a text whose inputs have no names, in order. Raises: InvalidInputError for what is no shape."""
    return [_sizes(part.strip().rpartition("=")[2]) for part in text.split(",")]


def _sizes(shape: str) -> tuple[int, ...]:
    sizes = tuple(int(x) for x in shape.split("x")) if _SHAPE.match(shape) else ()
    if not sizes or 0 in sizes:
        raise InvalidInputError(f"'{shape}' is no shape", hint="for example 1x3x224x224")
    return sizes


def _read(text: str | None, inputs: Dimensions, where: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for part in text.split(",") if text else ():
        name, equals, shape = part.strip().rpartition("=")
        if not equals and len(inputs) == 1:
            name = next(iter(inputs))
        if name not in inputs:
            raise unknown("input", name or part.strip(), list(inputs), where=where)
        shapes[name] = _sizes(shape)
    return shapes


def shown_shape(shape: tuple[int | str, ...]) -> str:
    return "x".join(str(d) if isinstance(d, int) else d or "?" for d in shape) or "a number"
