"""Products of mixed small formats summed exactly: decode to integers, multiply, add in a fixed-point register, round once.

A quire is an accumulator wide enough that no sum of products is ever rounded. XR-NPE (arXiv:2508.13049, section III)
feeds it from one array of multipliers for 4, 8 and 16-bit operands; the operands may have different formats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray, IntArray
from waferline.formats.codecs.floats import E2M1
from waferline.formats.codecs.posit import posit_encode, posit_table

_FLOAT64_BITS = 53
_WIDEST_INT64 = 63


@dataclass(frozen=True, slots=True)
class SmallFormat:
    """A format with few values. values: of every code, in code order, NaN where a code is no number."""

    name: str
    bits: int
    values: FloatArray
    encode: Callable[[FloatArray], npt.NDArray[np.integer]]

    @classmethod
    def posit(cls, bits: int, es: int) -> SmallFormat:
        """posit(bits, es). Raises: UnsupportedError for one without a table."""
        return cls(f"posit({bits},{es})", bits, posit_table(bits, es), lambda x: posit_encode(x, bits, es))

    @classmethod
    def fp4(cls) -> SmallFormat:
        """FP4 E2M1 of the OCP Microscaling specification."""
        table = E2M1.table().astype(np.float64)
        return cls("fp4", 4, table, lambda x: E2M1.encode(x.astype(np.float32)))

    @property
    def positive(self) -> FloatArray:
        """Its positive values, ascending."""
        return np.unique(self.values[self.values > 0])

    @property
    def lowest_bit(self) -> int:
        """Exponent of the power of two that divides every value."""
        mantissa, exponent = np.frexp(self.positive)
        whole = (mantissa * 2.0**_FLOAT64_BITS).astype(np.int64)
        return int((exponent - _FLOAT64_BITS + np.log2(whole & -whole)).min())

    @property
    def largest(self) -> int:
        """The largest value in units of the lowest bit."""
        return int(np.ldexp(self.positive[-1], -self.lowest_bit))


@dataclass(frozen=True, slots=True)
class Quire:
    """Exact sums: `units` (object array of Python integers or int64) times 2^exponent, in `width` bits."""

    units: npt.NDArray[np.object_] | IntArray
    exponent: int
    width: int

    def rounded(self, target: SmallFormat) -> FloatArray:
        """Every sum rounded once to `target`'s nearest value."""
        flat = [_to_odd(int(u)) for u in np.ravel(self.units)]
        values = np.ldexp(np.array(flat), self.exponent).reshape(np.shape(self.units))
        return np.asarray(target.values[target.encode(values)])


def quire_width(a: SmallFormat, b: SmallFormat, terms: int) -> int:
    """Bits of an accumulator that holds any sum of `terms` products, sign included."""
    return (a.largest * b.largest * terms).bit_length() + 1


def quire_matmul(
    a: npt.NDArray[np.integer], b: npt.NDArray[np.integer], a_format: SmallFormat, b_format: SmallFormat
) -> Quire:
    """Codes (m, k) times codes (k, n), summed without rounding. NaN codes must not occur."""
    width = quire_width(a_format, b_format, a.shape[1])
    left, right = (np.ldexp(f.values[x], -f.lowest_bit).astype(np.int64) for x, f in ((a, a_format), (b, b_format)))
    exponent = a_format.lowest_bit + b_format.lowest_bit
    if width <= _WIDEST_INT64:
        return Quire(left @ right, exponent, width)
    return Quire(left.astype(object) @ right.astype(object), exponent, width)


def _to_odd(value: int) -> float:
    """A float with the sign and leading bits of `value`; a sticky last bit makes a second rounding harmless."""
    surplus = max(abs(value).bit_length() - (_FLOAT64_BITS - 1), 0)
    kept = abs(value) >> surplus
    if kept << surplus != abs(value):
        kept |= 1
    return math.copysign(math.ldexp(kept, surplus), value)
