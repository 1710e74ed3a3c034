"""The shortest ways in: `Engine.solve` for one pass, `grid` for every combination of inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.errors import InvalidInputError
from waferline.predict.single import SingleNodeModel, SingleNodeResult
from waferline.text import told


class Engine:
    """`Engine.solve(model, hardware, batch_size, precision)`: one forward pass, or one training step, of any model."""

    @staticmethod
    def solve(
        model: Any,
        hardware: Any,
        batch_size: Any = 1,
        precision: Any = "fp16",
        *,
        is_training: bool = False,
        **options: Any,
    ) -> SingleNodeResult:
        """As `SingleNodeModel().solve`, which documents the options; `is_training` is its phase `train`."""
        if is_training:
            options = {"phase": "train", **options}
        return SingleNodeModel().solve(model, hardware, batch_size, precision, **options)


def grid(**axes: Any) -> dict[str, npt.NDArray[Any]]:
    """Every combination of the given values, as arrays that broadcast: the i-th keyword varies along axis i.

    `ServingModel().solve(model, hardware, **grid(batch_size=[1, 8], seq_len=[512, 2048], precision=["fp16", "int4"]))`
    answers with arrays of shape (2, 2, 2). Raises: InvalidInputError for an empty axis, another shape, other things.
    """
    arrays = {name: np.atleast_1d(_array(name, values)) for name, values in axes.items()}
    for name, values in arrays.items():
        if values.ndim != 1 or not values.size:
            raise InvalidInputError(f"grid axis {name} must be a non-empty list, got shape {values.shape}")
    n = len(arrays)
    return {
        name: values.reshape((1,) * i + (-1,) + (1,) * (n - 1 - i)) for i, (name, values) in enumerate(arrays.items())
    }


def _array(name: str, values: Any) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except Exception:  # lists of different lengths, objects that raise
        array = np.asarray(None)
    if array.dtype.kind not in "iufU" or np.ma.is_masked(values) or hasattr(values, "units") or np.any(array != array):
        raise InvalidInputError(f"grid axis {name} must be numbers or texts, got {told(values)}")
    return array
