"""Seconds of matrix products by table look-up: look-ups and reading the weights hide behind one another."""

from __future__ import annotations

from waferline.arrays import Floats
from waferline.elementwise import maximum
from waferline.predict.efficiency.kernel import Kernel
from waferline.workloads.operator import Operator


def expected_s(op: Operator, kernel: Kernel, compute_s: Floats, memory_s: Floats) -> Floats:
    """The rate of look-ups is measured of whole kernels: nothing is lost beside it but the floor of a launch."""
    return maximum(compute_s, memory_s) + kernel.c["floor_s"]
