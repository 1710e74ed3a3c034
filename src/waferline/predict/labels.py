"""Running a model once per distinct label (a precision, an engine) when labels vary over scenarios.

Everything inside a model is arithmetic on arrays with one set of formats. A sweep over formats is split here, at the
door, along the axis the label varies on, so that a million points cost one pass per label and no per-point work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray
Values = dict[str, npt.NDArray]


def over_labels(
    labels: npt.NDArray[np.str_], arguments: Mapping[str, npt.NDArray], solve: Callable[[str, Mapping[str, npt.NDArray]], Values]
) -> Values:
    """`solve(label, arguments)` for every distinct label, put together in scenario order."""
    distinct = np.unique(labels)
    if distinct.size == 1:
        return solve(str(distinct[0]), arguments)
    axes = [axis - labels.ndim for axis, n in enumerate(labels.shape) if n > 1]
    if len(axes) > 1:
        return _pointwise(labels, arguments, solve)
    axis = axes[0]
    flat = labels.ravel()
    out: Values = {}
    for label in distinct:
        index = np.flatnonzero(flat == label)
        part = {k: np.take(v, index, axis=axis) if _varies(v, axis) else v for k, v in arguments.items()}
        for name, value in solve(str(label), part).items():
            _scatter(out, name, value, index, axis, flat.size)
    return out


def _varies(value: npt.NDArray, axis: int) -> bool:
    return value.ndim >= -axis and value.shape[axis] > 1


def _scatter(out: Values, name: str, value: npt.NDArray, index: npt.NDArray[np.intp], axis: int, size: int) -> None:
    """Write one label's values into their places along `axis`."""
    value = np.asarray(value)
    value = value.reshape((1,) * max(-axis - value.ndim, 0) + value.shape)
    if name not in out:
        shape = list(value.shape)
        shape[axis] = size
        out[name] = np.empty(shape, dtype=value.dtype)
    target = out[name]
    wider = np.broadcast_shapes(target.shape, value.shape[:axis] + (1,) + value.shape[len(value.shape) + axis + 1 :])
    if wider != target.shape or target.dtype < value.dtype:
        target = np.array(np.broadcast_to(target, wider), dtype=np.promote_types(target.dtype, value.dtype))
        out[name] = target
    place = [slice(None)] * target.ndim
    place[axis] = index  # type: ignore[call-overload]
    target[tuple(place)] = value


def _pointwise(
    labels: npt.NDArray[np.str_], arguments: Mapping[str, npt.NDArray], solve: Callable[[str, Mapping[str, npt.NDArray]], Values]
) -> Values:
    """Labels that vary along several axes: broadcast everything, and solve each label's points as a flat list."""
    shape = np.broadcast_shapes(labels.shape, *(v.shape for v in arguments.values()))
    flat = np.broadcast_to(labels, shape).ravel()
    spread = {k: np.broadcast_to(v, shape).ravel() for k, v in arguments.items()}
    out = over_labels(flat, spread, solve)
    return {k: np.broadcast_to(v, flat.shape).reshape(shape) for k, v in out.items()}
