"""Types of the arrays that pass between rooms: one name for each element type, any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

AnyArray = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Floats = float | FloatArray  # one point or many; everything broadcasts
