"""KV cache capacity of a mesh region under two policies: append to the last row, or shift so that rows stay level."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import unknown
from waferline.machines.mesh_costs.fitted import tile

Policy = Literal["shift", "concat"]

POLICIES: tuple[Policy, ...] = ("shift", "concat")


def capacity_tokens(
    free_bytes: Any, key_value: Any, layers: Any, grid: Any, *, policy: Policy = "shift", element_bytes: float = 2.0
) -> FloatArray:
    """Tokens that a `grid` × `grid` region can cache when every core has `free_bytes` left.

    `key_value` is the width of K (and of V) per layer, `layers` the layers of the region. Concat fills the cores of one
    row; shift passes the oldest token up when rows differ, so all `grid` rows fill (WaferLLM, OSDI'25, section 6.3).
    Raises: UnknownNameError for another policy.
    """
    if policy not in POLICIES:
        raise unknown("KV policy", policy, POLICIES)
    token_bytes = 2 * tile(key_value, grid) * layers * element_bytes
    per_row = np.floor(np.maximum(np.asarray(free_bytes, dtype=np.float64), 0.0) / token_bytes)
    return per_row * (np.asarray(grid, dtype=np.float64) if policy == "shift" else 1.0)
