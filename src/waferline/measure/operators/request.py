"""What a user asks to be run: an operator by name, its shape, formats, batch and threads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from waferline.errors import InvalidInputError
from waferline.formats import get_format

_SHAPE = re.compile(r"^\d+(?:x\d+)*$")
_MOST_SIZE = 2**31


@dataclass(frozen=True, slots=True)
class OperatorRequest:
    """One operator to run.

    shape: rows x columns of the weights (gemv, gemm); heads x kv_heads x head_dim x context (attention); elements of
    one row otherwise. batch: activation columns, or sequences. cold: weights come from main memory, as in a model that is
    larger than the caches; otherwise the same ones are used again and again. kernel: of several that compute the same; empty
    for the usual one.
    """

    operator: str
    shape: tuple[int, ...]
    format: str = "q4_k"
    batch: int = 1
    threads: int = 1
    cold: bool = True
    kernel: str = ""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InvalidInputError(f"a batch of {self.batch}", where="batch", hint="at least 1")
        if not self.shape or not all(1 <= n < _MOST_SIZE for n in self.shape):
            raise InvalidInputError(f"shape {'x'.join(map(str, self.shape))}", hint="positive sizes such as 4096x4096")
        get_format(self.format)

    @property
    def label(self) -> str:
        shape = "x".join(map(str, self.shape))
        where = "cold" if self.cold else "warm"
        name = f"{self.operator}:{self.kernel}" if self.kernel else self.operator
        return f"{name} {shape} {self.format} batch {self.batch} threads {self.threads} {where}"

    def detail(self, **evidence: Any) -> dict[str, Any]:
        """What a record says of the request; `evidence` are further columns of an evidence row."""
        return {
            "operator": self.operator,
            **({"kernel": self.kernel} if self.kernel else {}),
            "shape": list(self.shape),
            "format": self.format,
            "batch": self.batch,
            "threads": self.threads,
            "cold": self.cold,
            "evidence": {
                "phase": "operator",
                "batch": self.batch,
                "operation": self.label,
                "devices": 1,
                **evidence,
            },
        }


def parse_shape(text: str) -> tuple[int, ...]:
    """`14336x4096` as numbers. Raises: InvalidInputError."""
    clean = text.strip().lower().replace("×", "x").replace("*", "x")
    if not _SHAPE.match(clean):
        raise InvalidInputError(f"'{text}' is no shape", where="shape", hint="such as 14336x4096")
    return tuple(int(n) for n in clean.split("x"))
