"""What runs one kind of operator, in one set of formats, on one machine: its roofs, its constants, and how well they are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from waferline.arrays import Floats
from waferline.predict.efficiency.coefficients import Record
from waferline.predict.efficiency.device import DeviceFacts
from waferline.workloads.operator import Operator


class Kernel(NamedTuple):
    """A kernel as the roofline sees it.

    device: the sheet, in the arithmetic the kernel computes in. c: the fitted constants of `record`. tier: calibrated,
    transferred or spec only. bits: widths of weights and KV, and the width that activations are quantised to at the door.
    """

    expected_s: ExpectedSeconds
    device: DeviceFacts
    c: Mapping[str, float]
    record: Record
    tier: str
    weight_bits: float
    door_bits: float
    kv_bits: float


# (operator, its kernel, seconds that its arithmetic and its traffic alone take) → seconds to expect of one execution
ExpectedSeconds = Callable[[Operator, Kernel, Floats, Floats], Floats]
