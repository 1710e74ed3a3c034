"""Multiplication as signed radix-4 digits: EN-T and Booth encodings, products by bit weight, and how many digits are zero.

C[m, n] = sum over k and b of 4^b d_b(A[m, k]) B[k, n]; the bit weight b is a loop like any other, and an engine that
skips zero digits spends one cycle on each that is left.
Source: Wu et al. 2025, "Exploring the performance improvement of tensor processing engines through transformation in
the bit-weight dimension of MACs", HPCA 2025, arXiv:2503.06342.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray, IntArray
from waferline.errors import InvalidInputError

DIGITS = 4  # radix-4 digits of an 8-bit operand
_LOWEST, _HIGHEST = -128, 127


def _checked(a: npt.ArrayLike) -> IntArray:
    values = np.asarray(a, np.int64)
    if values.size and (values.min() < _LOWEST or values.max() > _HIGHEST):
        raise InvalidInputError(f"operands from {values.min()} to {values.max()}", hint="int8: -128 to 127")
    return values


def ent_digits(a: npt.ArrayLike) -> IntArray:
    """EN-T digits (..., 4), least significant first: {-1, 0, 1, 2} of |a|, the sign applied after.

    Raises: InvalidInputError for operands that are not int8.
    """
    values = _checked(a)
    magnitude, carry = np.abs(values), np.zeros_like(values)
    digits = np.empty((*values.shape, DIGITS), np.int64)
    for i in range(DIGITS):
        piece = ((magnitude >> (2 * i)) & 3) + carry
        carry = (piece >= 3).astype(np.int64)
        digits[..., i] = piece - 4 * carry
    return np.asarray(digits * np.sign(values)[..., None])


def booth_digits(a: npt.ArrayLike) -> IntArray:
    """Radix-4 Booth digits (..., 4), least significant first, {-2 ... 2} of the two's complement.

    Raises: InvalidInputError for operands that are not int8.
    """
    values = _checked(a)
    bits = values & 0xFF
    before = np.concatenate([np.zeros((*values.shape, 1), np.int64), (bits[..., None] >> np.array([1, 3, 5])) & 1], -1)
    low = (bits[..., None] >> np.arange(0, 8, 2)) & 1
    high = (bits[..., None] >> np.arange(1, 8, 2)) & 1
    return np.asarray(-2 * high + low + before)


Encoding = Callable[[npt.ArrayLike], IntArray]


def matmul_by_digits(a: npt.ArrayLike, b: npt.ArrayLike, encode: Encoding = ent_digits) -> IntArray:
    """A[m, k] B[k, n] of int8 operands, one product for each bit weight, shifted once at the end."""
    digits, right = encode(a), np.asarray(b, np.int64)
    return np.asarray(sum((digits[..., i] @ right) << (2 * i) for i in range(DIGITS)))


def normal_int8(sigma: float) -> FloatArray:
    """Probability of each int8 value, -128 first, of a normal variable that is rounded and clipped."""
    edges = np.arange(_LOWEST, _HIGHEST) + 0.5
    below = np.array([0.5 * (1 + math.erf(e / (sigma * math.sqrt(2)))) for e in edges])
    return np.diff(np.concatenate([[0.0], below, [1.0]]))


def nonzero_share(probability: npt.ArrayLike, encode: Encoding = ent_digits) -> FloatArray:
    """How often each of the four digits is not zero, for operands distributed as `probability` (256,)."""
    digits = encode(np.arange(_LOWEST, _HIGHEST + 1))
    return np.asarray(np.asarray(probability) @ (digits != 0))


def mean_digits(probability: npt.ArrayLike, encode: Encoding = ent_digits) -> float:
    """Non-zero digits of an operand on average: the partial products that are left."""
    return float(nonzero_share(probability, encode).sum())


def mean_cycles(probability: npt.ArrayLike, group: int = 4, encode: Encoding = ent_digits) -> float:
    """Cycles of an operand when `group` operands share a bit-serial lane: a group of zeros still takes one."""
    share = nonzero_share(probability, encode)
    return float(np.sum(share + (1 - share) ** group / group))
