"""Running a model part by part: once for each precision, and in blocks of points that stay in the processor's cache.

Everything inside a model is arithmetic on arrays with one set of formats. What varies otherwise is split here, at the door:
labels (a sweep over precisions) along the axis they vary on, and large calls along their longest axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from waferline.arrays import AnyArray, Floats

Values = dict[str, AnyArray]
Solve = Callable[[Mapping[str, Any]], Values]

BLOCK_POINTS = 32768  # 256 kB an array: few are live at a time, and the caches hold them


def over_labels(
    labels: AnyArray, arguments: Mapping[str, Any], solve: Callable[[str, Mapping[str, Any]], Values]
) -> Values:
    """`solve(label, arguments)` for every distinct label, put together in scenario order."""
    if labels.size == 1:
        return solve(str(labels.flat[0]), arguments)
    distinct = np.unique(labels)
    if distinct.size == 1:
        return solve(str(distinct[0]), arguments)
    axes = [axis - labels.ndim for axis, n in enumerate(labels.shape) if n > 1]
    if len(axes) > 1:
        return _pointwise(labels, arguments, solve)
    axis, flat = axes[0], labels.ravel()
    pieces: list[tuple[Any, Values]] = []
    for label in distinct:
        index = np.flatnonzero(flat == label)
        part = {k: np.take(v, index, axis=axis) if _varies(v, axis) else v for k, v in arguments.items()}
        pieces.append((index, solve(str(label), part)))
    return _assembled(pieces, axis, flat.size)


def over_blocks(arguments: Mapping[str, Any], solve: Solve, points: int = BLOCK_POINTS) -> Values:
    """`solve(arguments)`, in blocks of at most about `points` scenarios cut from the longest axis."""
    shape = np.broadcast_shapes(*(np.shape(v) for v in arguments.values()))
    size = math.prod(shape)
    if size <= points:
        return solve(arguments)
    axis = int(np.argmax(shape)) - len(shape)  # counted from the end, as arrays broadcast
    step = max(1, points // (size // shape[axis]))
    pieces = []
    for part in _slices(shape[axis], step):
        cut = {
            k: v[(..., part, *(slice(None),) * (-axis - 1))] if _varies(v, axis) else v for k, v in arguments.items()
        }
        pieces.append((part, over_blocks(cut, solve, points)))
    return _assembled(pieces, axis, shape[axis])


def _slices(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def _varies(value: Floats, axis: int) -> bool:
    return np.ndim(value) >= -axis and np.shape(value)[axis] > 1


def _assembled(pieces: Sequence[tuple[Any, Values]], axis: int, size: int) -> Values:
    """One set of values from those of parts that lie at an index (or slice) along `axis`, counted from the end.

    The axis is laid out first in memory, so that each part writes one block, and moved into place as a view. A value that
    no part varies, and that is the same in all, stays a single one.
    """
    out: Values = {}
    for name, first in pieces[0][1].items():
        parts = [(index, values[name]) for index, values in pieces if name in values]
        if all(v.ndim == 0 and v == first for _, v in parts):
            out[name] = first
            continue
        padded = [(i, np.reshape(v, (1,) * max(-axis - v.ndim, 0) + v.shape)) for i, v in parts]
        fronted = [(i, np.moveaxis(v, axis, 0)) for i, v in padded]
        rest = np.broadcast_shapes(*(v.shape[1:] for _, v in fronted))
        whole = np.empty((size, *rest), dtype=np.result_type(*(v for _, v in fronted)))
        for index, value in fronted:
            whole[index] = value
        out[name] = np.moveaxis(whole, 0, axis)
    return out


def _pointwise(
    labels: AnyArray, arguments: Mapping[str, Any], solve: Callable[[str, Mapping[str, Any]], Values]
) -> Values:
    """Labels that vary along several axes: broadcast everything, and solve each label's points as a flat list."""
    shape = np.broadcast_shapes(labels.shape, *(np.shape(v) for v in arguments.values()))
    flat = np.broadcast_to(labels, shape).ravel()
    spread = {k: np.broadcast_to(v, shape).ravel() for k, v in arguments.items()}
    out = over_labels(flat, spread, solve)
    return {k: np.broadcast_to(v, flat.shape).reshape(shape) for k, v in out.items()}
