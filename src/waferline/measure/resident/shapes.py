"""The shapes that throughput is quoted for, and the inputs of a solve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError, unknown
from waferline.text import is_count

RIDGE = 1e-3  # λ: XᵀWX alone is singular where p > n
_X_SCALE = 0.05
_SMALLEST_WEIGHT = 1e-3
_WEIGHT_STEP = 1e-3  # by which w differs from one repeat to the next
_RHS_FREQUENCY = 0.03
_SEED = 0x1412


@dataclass(frozen=True, slots=True)
class EncodeShape:
    """One problem: `n` rows (of X, counted for the rate) and `p` unknowns. Bytes and operations are in fp64."""

    label: str
    n: int
    p: int

    @property
    def flops(self) -> float:
        """Of one solve: Gram 2np², Cholesky p³/3, two triangular solves 2p²."""
        return 2.0 * self.n * self.p**2 + self.p**3 / 3.0 + 2.0 * self.p**2

    @property
    def resident_bytes(self) -> float:
        """X, the weighted X and the Gram matrix with its factor, on the device."""
        return 8.0 * (2.0 * self.n * self.p + 2.0 * self.p**2)

    def to_json(self) -> dict[str, object]:
        return {"label": self.label, "n": self.n, "p": self.p}


CANONICAL_ENCODE_SHAPES = (
    EncodeShape("sae-2k-2048", 2000, 2048),
    EncodeShape("sae-4k-4096", 4000, 4096),
    EncodeShape("sae-8k-1024", 8000, 1024),
)


def encode_shape(text: str) -> EncodeShape:
    """A canonical shape by label, or `2000x2048` as n x p.

    Raises: UnknownNameError naming the canonical labels, InvalidInputError for sizes of zero.
    """
    by_label = {s.label: s for s in CANONICAL_ENCODE_SHAPES}
    if text in by_label:
        return by_label[text]
    n, _, p = text.lower().partition("x")
    if not (is_count(n) and is_count(p)):
        raise unknown("shape", text, by_label)
    if not int(n) or not int(p):
        raise InvalidInputError(f"{text} has a size of 0", where="shape")
    return EncodeShape(text, int(n), int(p))


@dataclass(frozen=True, slots=True)
class Inputs:
    """X f64[n, p] row-major, base weights f64[n] > 0, right side f64[p]. The same for a shape on every machine."""

    x: FloatArray
    base: FloatArray
    rhs: FloatArray

    @staticmethod
    def of(shape: EncodeShape) -> Inputs:
        random = np.random.Generator(np.random.PCG64(_SEED))
        x = random.uniform(-_X_SCALE, _X_SCALE, (shape.n, shape.p))
        base = np.abs(random.uniform(-1.0, 1.0, shape.n)) + _SMALLEST_WEIGHT
        return Inputs(x, base, np.cos(_RHS_FREQUENCY * np.arange(1, shape.p + 1)))

    def weights(self, repeat: int) -> FloatArray:
        """w of one repeat, f64[n]: every solve has its own, so that none can be answered from the last."""
        return self.base + _WEIGHT_STEP * repeat
