"""Energy of a wafer against a GPU cluster for the same work, from powers and times alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.workloads.scenario import real

A100_W = (
    400.0  # TDP of the A100 SXM (NVIDIA data sheet); WaferLLM (OSDI'25) tables 6-8 follow with the wafer at 37.5 of it
)


def energy_ratio(devices: Any, device_s: Any, wafer_s: Any, *, wafer_w: Any, device_w: Any = A100_W) -> FloatArray:
    """Energy of `devices` GPUs busy for `device_s` over that of one wafer busy for `wafer_s` (above 1: the wafer wins).

    Raises: InvalidInputError for times or powers that are not positive.
    """
    devices, device_s = real("devices", devices, least=1), real("device_s", device_s, least=1e-12)
    wafer_s, wafer_w = real("wafer_s", wafer_s, least=1e-12), real("wafer_w", wafer_w, least=1e-6)
    return np.asarray(devices * real("device_w", device_w, least=1e-6) * device_s / (wafer_w * wafer_s))
