"""The sizes of a request, checked once at the door: what every model takes and no machine can bend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import Floats
from waferline.elementwise import anywhere, floor
from waferline.errors import InvalidInputError
from waferline.units import plain_numbers

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
    found = plain_numbers(name, value)
    if found.size == 0:
        raise InvalidInputError(f"{name} is empty")
    bad = ~np.isfinite(found) | (found < least) | (found > most)
    if bad.any():
        first = found[bad].flat[0]
        too_few = most == np.inf or (most == MOST_COUNT and first < least)
        bounds = f"at least {least:g}" if too_few else f"between {least:g} and {most:g}"
        raise InvalidInputError(f"{name} must be {bounds}, got {first:g}")
    return found if found.ndim else float(found)


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
