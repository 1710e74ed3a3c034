"""One line of a breakdown: an operator with its share of a phase."""

from __future__ import annotations

from dataclasses import dataclass

from waferline.arrays import AnyArray


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """One line of `explain`: an operator's share of its phase and the roof that binds it. Arrays over scenarios."""

    phase: str
    name: str
    kind: str
    count: AnyArray
    time_s: AnyArray  # all executions
    light_s: AnyArray
    flops: AnyArray
    bytes: AnyArray
    bound: AnyArray  # text: compute, memory, link, overhead
    tier: str
