"""The sizes of a request, checked once at the door: what every model takes and no machine can bend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as shown
from typing import Any

import numpy as np

from waferline.arrays import FloatArray, Floats
from waferline.elementwise import anywhere, floor
from waferline.errors import InvalidInputError

MOST_COUNT = 1_000_000_000  # of tokens, sequences, devices, whatever is counted: beyond, it is a typing error


def whole(name: str, value: Any, *, least: int = 1, most: float = MOST_COUNT) -> Floats:
    """A count (or array of counts): whole, at least `least` and at most `most`.

    Raises: InvalidInputError naming the argument and the first bad value.
    """
    numbers = real(name, value, least=least, most=most)
    if anywhere(numbers != floor(numbers)):
        first = np.asarray(numbers)[np.asarray(numbers != floor(numbers))].flat[0]
        raise InvalidInputError(f"{name} must be a whole number, got {first:g}")
    return numbers


def real(name: str, value: Any, *, least: float = 0.0, most: float = np.inf) -> Floats:
    """A finite number (or array) between `least` and `most`.

    Raises: InvalidInputError naming the argument and the first bad value.
    """
    if type(value) in (int, float) and least <= value <= most and abs(value) < np.inf:
        return float(value)
    numbers = _numbers(name, value)
    if numbers.size == 0:
        raise InvalidInputError(f"{name} is empty")
    bad = ~np.isfinite(numbers) | (numbers < least) | (numbers > most)
    if bad.any():
        first = numbers[bad].flat[0]
        too_few = most == np.inf or (most == MOST_COUNT and first < least)
        bounds = f"at least {least:g}" if too_few else f"between {least:g} and {most:g}"
        raise InvalidInputError(f"{name} must be {bounds}, got {first:g}")
    return numbers if numbers.ndim else float(numbers)


def _numbers(name: str, value: Any) -> FloatArray:
    """Numbers and arrays of them: no text, truth values, dates, quantities with a unit, complex or masked numbers."""
    try:
        plain = value if isinstance(value, np.ndarray | np.generic) else np.asarray(value)
        if hasattr(value, "dimensionality"):  # a pint quantity: counts have no unit
            plain = np.asarray(value.to("dimensionless").magnitude)
        if plain.dtype.kind == "O" and all(
            isinstance(v, int | float) for v in plain.flat
        ):  # whole numbers beyond 64 bits
            plain = plain.astype(np.float64)
    except Exception:  # whatever an object raises that is asked for its numbers
        plain = np.asarray("")
    if plain.dtype.kind not in "iuf" or np.ma.is_masked(plain):
        raise InvalidInputError(f"{name} must be a number or an array of numbers, got {shown(value)}")
    return np.asarray(plain, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Parallel:
    """How one model is spread: tensor, pipeline, expert and data parallel degrees, each broadcastable.

    `tp · pp · dp` devices in all. `ep` is how many of the `tp · dp` ranks of a stage share the experts between them.
    """

    tp: Floats = 1.0
    pp: Floats = 1.0
    ep: Floats = 1.0
    dp: Floats = 1.0

    @staticmethod
    def of(tp: Any = 1, pp: Any = 1, ep: Any = 1, dp: Any = 1) -> Parallel:
        return Parallel(whole("tp", tp), whole("pp", pp), whole("ep", ep), whole("dp", dp))

    @property
    def devices(self) -> Floats:
        return self.tp * self.pp * self.dp


def common_shape(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape that all arguments broadcast to.

    Raises: InvalidInputError naming the arguments whose shapes clash.
    """
    shapes = {name: np.shape(value) for name, value in arguments.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items() if shape)
        raise InvalidInputError(
            f"arguments of different shapes do not broadcast: {listed}",
            hint="use waferline.grid(...) for every combination",
        ) from None
