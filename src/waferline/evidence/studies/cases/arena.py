"""Where buffers lie in one block of memory: each has a size and a lifetime, and no two that live together may overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from waferline.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Buffer:
    """`size_bytes` that must stay from step `first` to step `last`, both included."""

    name: str
    size_bytes: float
    first: int
    last: int

    def __post_init__(self) -> None:
        if self.size_bytes < 0 or self.last < self.first:
            raise InvalidInputError(
                f"buffer of {self.size_bytes:g} bytes, steps {self.first} to {self.last}", where=self.name
            )

    def meets(self, other: Buffer) -> bool:
        """True where both are alive in some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Placement:
    """A buffer and the address it starts at."""

    buffer: Buffer
    offset_bytes: float

    @property
    def end_bytes(self) -> float:
        return self.offset_bytes + self.buffer.size_bytes


def place(buffers: Sequence[Buffer]) -> tuple[Placement, ...]:
    """Largest first, each into the lowest gap that is wide enough among those alive with it (greedy by size).

    Source: Pisarchyk and Lee 2020, "Efficient memory management for deep neural net inference", arXiv:2001.03288.
    """
    placed: list[Placement] = []
    for buffer in sorted(buffers, key=lambda b: (-b.size_bytes, b.first, b.name)):
        offset = 0.0
        for other in sorted((p for p in placed if p.buffer.meets(buffer)), key=lambda p: p.offset_bytes):
            if offset + buffer.size_bytes <= other.offset_bytes:
                break
            offset = max(offset, other.end_bytes)
        placed.append(Placement(buffer, offset))
    return tuple(placed)


def peak_bytes(placements: Sequence[Placement]) -> float:
    """Bytes that the block must have."""
    return max((p.end_bytes for p in placements), default=0.0)


def live_bytes(buffers: Sequence[Buffer]) -> float:
    """The most that lives in one step: no placement can do with less."""
    steps = {b.first for b in buffers}
    return max((sum(b.size_bytes for b in buffers if b.first <= s <= b.last) for s in steps), default=0.0)


def separate_bytes(buffers: Sequence[Buffer]) -> float:
    """Bytes with no reuse at all: every buffer its own place."""
    return sum(b.size_bytes for b in buffers)
