"""Running a model once per distinct label (a precision, an engine) when labels vary over scenarios.

Everything inside a model is arithmetic on arrays with one set of formats. A sweep over formats is split here, at the
door, along the axis the label varies on, so that a million points cost one pass per label and no per-point work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Values = dict[str, npt.NDArray]


def over_labels(
    labels: npt.NDArray[np.str_],
    arguments: Mapping[str, npt.NDArray],
    solve: Callable[[str, Mapping[str, npt.NDArray]], Values],
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
    pieces: list[tuple[npt.NDArray[np.intp], Values]] = []
    for label in distinct:
        index = np.flatnonzero(flat == label)
        part = {k: np.take(v, index, axis=axis) if _varies(v, axis) else v for k, v in arguments.items()}
        pieces.append((index, solve(str(label), part)))
    return {name: _assemble([(i, v[name]) for i, v in pieces if name in v], axis, flat.size) for name in pieces[0][1]}


def _varies(value: npt.NDArray, axis: int) -> bool:
    return value.ndim >= -axis and value.shape[axis] > 1


def _assemble(pieces: Sequence[tuple[npt.NDArray[np.intp], npt.NDArray]], axis: int, size: int) -> npt.NDArray:
    """One array from the values of each label, which lie at `index` along `axis` (counted from the end).

    The label axis is laid out first in memory, so that each label writes one block, and moved into place as a view.
    """
    padded = [(i, np.reshape(v, (1,) * max(-axis - np.ndim(v), 0) + np.shape(v))) for i, v in pieces]
    fronted = [(i, np.moveaxis(v, axis, 0)) for i, v in padded]
    rest = np.broadcast_shapes(*(v.shape[1:] for _, v in fronted))
    dtype = np.result_type(*(v for _, v in fronted))
    out = np.empty((size, *rest), dtype=dtype)
    for index, value in fronted:
        out[index] = value
    return np.moveaxis(out, 0, axis)


def _pointwise(
    labels: npt.NDArray[np.str_],
    arguments: Mapping[str, npt.NDArray],
    solve: Callable[[str, Mapping[str, npt.NDArray]], Values],
) -> Values:
    """Labels that vary along several axes: broadcast everything, and solve each label's points as a flat list."""
    shape = np.broadcast_shapes(labels.shape, *(v.shape for v in arguments.values()))
    flat = np.broadcast_to(labels, shape).ravel()
    spread = {k: np.broadcast_to(v, shape).ravel() for k, v in arguments.items()}
    out = over_labels(flat, spread, solve)
    return {k: np.broadcast_to(v, flat.shape).reshape(shape) for k, v in out.items()}
