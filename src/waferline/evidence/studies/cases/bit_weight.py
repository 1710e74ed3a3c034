"""Tensor engines in the bit-weight dimension: encodings, digits that are left, and cycles of five engines.

Multiplication as signed radix-4 digits: EN-T and Booth encodings, products by bit weight, and how many digits are zero.

C[m, n] = sum over k and b of 4^b d_b(A[m, k]) B[k, n]; the bit weight b is a loop like any other, and an engine that
skips zero digits spends one cycle on each that is left.
Source: Wu et al. 2025, "Exploring the performance improvement of tensor processing engines through transformation in
the bit-weight dimension of MACs", HPCA 2025, arXiv:2503.06342.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray, IntArray
from waferline.errors import InvalidInputError
from waferline.evidence.studies.cases.engine_arrays import ENGINES, Array2D, output_stationary, weight_stationary
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity, own
from waferline.evidence.studies.tolerance import EXACT, at_most, printed, relative

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


_DIGITS = 0.02
_WHY_OPT4C = (
    "the run's vector length is not stated, and the test bench averages in one empty sample a vector: 2.26 at K = 32"
)
_WHY_SAMPLE = (
    "the operands were sampled: K = 32 and K = 128 differ by 1.2 % in print where one empty sample a vector makes 2.3 %"
)
_WHY_PDK = "area and energy depend on the process kit: the authors' SAED32 reports give other ratios; kept as data"


def compute(data: Facts) -> Iterator[Check]:
    yield from _exact()
    yield from _digits(data)
    yield from _cycles()
    for gain in data["gains"]:
        ratio = None
        if "mhz" in gain:
            (new, old), (new_area, old_area) = gain["mhz"], gain["cell_area"]
            ratio = (new / new_area) / (old / old_area)
        yield Check(f"{gain['name']} (SMIC 28 nm; computed: SAED32)", "×", gain["published"], ratio, None, _WHY_PDK)


def _exact() -> Iterator[Check]:
    values, weights = np.arange(-128, 128), 4 ** np.arange(DIGITS)
    rng = np.random.default_rng(0)
    a, b = rng.integers(-128, 128, (33, 70)), rng.integers(-128, 128, (70, 21))
    for name, encode in (("EN-T", ent_digits), ("Booth", booth_digits)):
        wrong = int(np.sum(encode(values) @ weights != values))
        yield own(f"{name} digits: int8 values not restored", "of 256", 0, wrong, EXACT)
        wrong = int(np.sum(matmul_by_digits(a, b, encode) != a @ b))
        yield own(f"product by {name} digits: elements not exact", "of 693", 0, wrong, EXACT)


def _digits(data: Facts) -> Iterator[Check]:
    for table in data["digits"]:
        seen = table["k"] / (table["k"] + data["extra_samples"])
        for sigma, published in zip(table["sigma"], table["mean"], strict=True):
            mean = seen * mean_digits(normal_int8(sigma))
            name = f"digits left, sigma {sigma}, K {table['k']}"
            yield Check(name, "an operand", published, mean, relative(_DIGITS), why=_WHY_SAMPLE)
    run, group = data["opt4c"], data["group"]
    mean = mean_digits(normal_int8(run["sigma"]))
    name = f"OPT4C, sigma {run['sigma']}"
    yield Check(name, "an operand", run["cycles"], mean, relative(_DIGITS), why=_WHY_OPT4C)
    for name, encode in (("ent", ent_digits), ("booth", booth_digits)):
        mean, said = mean_digits(np.full(256, 1 / 256), encode), data["uniform"][name]
        yield identity(f"digits left, uniform int8, {name}", "an operand", said, mean, printed(str(said)))
    sparse = normal_int8(data["digits"][0]["sigma"][0])
    extra = mean_cycles(sparse, group) / mean_digits(sparse)
    name = "cycles over digits at sigma 10: an all-zero group still takes one"
    yield Check(name, "×", None, extra, None, why="the source counts digits only; the true cycle count is higher")


def _cycles() -> Iterator[Check]:
    rng = np.random.default_rng(1)
    m, k, n, array = 19, 23, 13, Array2D(8, 6, depth=4)
    a, b = rng.integers(-128, 128, (m, k)), rng.integers(-128, 128, (k, n))
    for name, run in (
        ("systolic, output stationary", output_stationary),
        ("systolic, weight stationary", weight_stationary),
    ):
        result, cycles = run(a, b, array.rows, array.columns)
        wrong = int(np.sum(result != a @ b))
        yield own(f"{name}: elements not exact", f"of {m * n}", 0, wrong, EXACT, how="simulated")
        formula = float(ENGINES[name](m, k, n, array))
        yield own(f"{name}: formula against registers", "cycles", cycles, formula, EXACT)
    full = Array2D(16, 16, depth=16)
    for name, model in ENGINES.items():
        multipliers = full.rows * full.columns * (full.depth if name == "cube" else 1)
        busy = 512**3 / multipliers / float(model(512, 512, 512, full))
        yield Check(f"{name}: multipliers busy at 512³", "share", None, busy, at_most(1.0))
