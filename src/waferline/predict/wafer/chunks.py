"""Large sweeps in pieces: the temporaries of one piece stay in the cache of one core."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from waferline.arrays import AnyArray
from waferline.predict.blocks import Values

POINTS = 16384  # scenarios per piece; a dozen double arrays of them fit a 2 MiB second-level cache


def in_chunks(arguments: Mapping[str, AnyArray], solve: Callable[[Mapping[str, AnyArray]], Values]) -> Values:
    """`solve(arguments)` over pieces of at most `POINTS` scenarios, put together in the common shape."""
    shape = np.broadcast_shapes(*(v.shape for v in arguments.values()))
    size = int(np.prod(shape))
    if size <= POINTS:
        return solve(arguments)
    flat = {k: v if v.ndim == 0 else np.broadcast_to(v, shape).ravel() for k, v in arguments.items()}
    out: Values = {}
    for start in range(0, size, POINTS):
        piece = {k: v if v.ndim == 0 else v[start : start + POINTS] for k, v in flat.items()}
        for name, value in solve(piece).items():
            if np.ndim(value) == 0:
                out[name] = np.asarray(value)
            else:
                target = out.setdefault(name, np.empty(size, dtype=value.dtype))
                target[start : start + POINTS] = value
    return {k: v.reshape(shape) if np.ndim(v) else v for k, v in out.items()}
