"""Memory that starts on a cache line, as vector and tile loads want it."""

from __future__ import annotations

import numpy as np

from waferline.errors import DoesNotFitError

ALIGNMENT_BYTES = 64


def aligned_empty(size: int) -> np.ndarray:
    """u8[size] starting on a cache line. Raises `DoesNotFitError` instead of running out of memory."""
    try:
        raw = np.empty(size + ALIGNMENT_BYTES, np.uint8)
    except MemoryError as error:
        raise DoesNotFitError(f"{size} bytes do not fit in memory", where="kernels") from error
    start = -raw.ctypes.data % ALIGNMENT_BYTES
    return raw[start : start + size]


def aligned_f32(rows: int, columns: int) -> np.ndarray:
    """Uninitialised f32[rows, columns] starting on a cache line."""
    return aligned_empty(rows * columns * 4).view(np.float32).reshape(rows, columns)
