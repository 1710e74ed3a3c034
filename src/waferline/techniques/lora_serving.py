"""Many low-rank adapters over one base model: what each batch reads and computes beside the base weights.

Sources: Punica, arXiv:2310.18547, section 4; S-LoRA, arXiv:2311.03285.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def adapter_parameters(rank: int, matrices: Sequence[tuple[int, int]], layers: int) -> int:
    """Parameters of one adapter on the given (in, out) matrices of every layer."""
    return layers * rank * sum(fan_in + fan_out for fan_in, fan_out in matrices)


def added_step_s(parameters: float, distinct: int, sequences: int, bytes_per_s: float, flops_per_s: float) -> float:
    """Seconds a decode step grows by at full bandwidth: every distinct adapter is read once, in 16 bits."""
    moved, flops = 2.0 * distinct * parameters, 2.0 * sequences * parameters
    return float(np.maximum(moved / bytes_per_s, flops / flops_per_s))


def adapters_that_fit(free_bytes: float, parameters: float) -> int:
    """Adapters that stay on the device beside the base model, in 16 bits."""
    return int(free_bytes // (2.0 * parameters))
