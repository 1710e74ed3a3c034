"""Cycles of an inner loop on an in-order RISC-V core, by counting instructions and load-use stalls.

The core is RV32IMCF with the Xpulp extensions: hardware loops and post-increment loads cost nothing, every instruction
issues in one cycle, and an instruction that uses the result of the load right before it waits one cycle.
Source: Gautschi et al. 2017, "Near-threshold RISC-V core with DSP extensions", IEEE TVLSI 25(10), section III.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from waferline.errors import InvalidInputError

_LOAD = "ld"
_OPERATIONS = frozenset({_LOAD, "st", "mac", "vmac", "pack", "shuffle", "add", "mul", "cmp"})
_LOAD_USE_STALL = 1


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: what it does, the register it writes ("" for a store) and those it reads."""

    operation: str
    writes: str
    reads: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Instruction:
        """`c=mac a b c` or `st c`. Raises: InvalidInputError for an operation the core does not have."""
        target, equals, rest = text.partition("=")
        words = (rest if equals else text).split()
        if not words or words[0] not in _OPERATIONS:
            raise InvalidInputError(f"instruction '{text}'", hint=f"one of {', '.join(sorted(_OPERATIONS))}")
        return cls(words[0], target.strip() if equals else "", tuple(words[1:]))


@dataclass(frozen=True, slots=True)
class Loop:
    """An inner loop. macs: of one iteration; outputs: accumulators that one whole loop finishes."""

    body: tuple[Instruction, ...]
    macs: int
    outputs: int

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Loop:
        """From `{body: [...], macs, outputs}` as the study's file writes it."""
        return cls(tuple(Instruction.parse(line) for line in facts["body"]), facts["macs"], facts["outputs"])

    @property
    def stalls(self) -> int:
        """Cycles lost in one iteration to results of the load right before."""
        before = (self.body[-1], *self.body[:-1])  # the loop wraps round
        return sum(
            _LOAD_USE_STALL for last, now in zip(before, self.body, strict=True)
            if last.operation == _LOAD and last.writes in now.reads
        )  # fmt: skip

    @property
    def cycles(self) -> int:
        """Of one iteration."""
        return len(self.body) + self.stalls

    @property
    def cycles_per_mac(self) -> float:
        return self.cycles / self.macs
