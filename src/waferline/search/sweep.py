"""Sweeps of any size in bounded memory: a grid is solved in chunks, and each chunk is written or summed up at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from waferline.arrays import AnyArray
from waferline.errors import InvalidInputError
from waferline.files import replacing
from waferline.predict.result import Result
from waferline.predict.shortcut import grid

CHUNK_POINTS = 100_000  # large enough that NumPy's overhead vanishes, small enough to stay in cache-sized buffers

Solve = Callable[..., Result]


def chunks(axes: Mapping[str, Sequence[Any] | AnyArray], points: int = CHUNK_POINTS) -> Iterator[dict[str, AnyArray]]:
    """The grid of `axes`, cut along its first axes into sub-grids of at most about `points` points each.

    Every sub-grid is a mapping of arrays that broadcast, as `waferline.grid` makes them; their order is the grid's.
    """
    values = {name: np.atleast_1d(np.asarray(v)) for name, v in axes.items()}
    if any(v.ndim != 1 or not v.size for v in values.values()):
        raise InvalidInputError("every sweep axis must be a non-empty list")
    names = list(values)
    inner, split = 1, len(names)
    while split > 0 and inner * values[names[split - 1]].size <= points:
        split -= 1
        inner *= values[names[split]].size
    if split == 0:
        yield grid(**values)
        return
    cut = names[split - 1]
    step = max(1, points // inner)
    for outer in np.ndindex(*(values[n].size for n in names[: split - 1])):
        fixed = {n: values[n][i : i + 1] for n, i in zip(names, outer, strict=False)}
        for start in range(0, values[cut].size, step):
            part = {cut: values[cut][start : start + step]}
            yield grid(**{n: (fixed | part).get(n, values[n]) for n in names})


def points_of(axes: Mapping[str, Sequence[Any] | AnyArray]) -> int:
    """Number of points of the grid."""
    return math.prod(np.size(v) for v in axes.values())


def rows_of(result: Result, arguments: Mapping[str, AnyArray], fields: Sequence[str]) -> dict[str, AnyArray]:
    """Inputs and chosen fields of one chunk as flat columns."""
    shape = np.broadcast_shapes(*(v.shape for v in arguments.values()))
    columns = {name: np.broadcast_to(v, shape).ravel() for name, v in arguments.items()}
    missing = np.asarray(np.nan)  # a field that others have: the price of a machine that nobody sells
    values = {name: result.values.get(name, missing) for name in fields}
    return columns | {name: np.broadcast_to(value, shape).ravel() for name, value in values.items()}


def sweep(
    solve: Solve,
    axes: Mapping[str, Sequence[Any] | AnyArray],
    fields: Sequence[str],
    *,
    points: int = CHUNK_POINTS,
    fixed: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, AnyArray]]:
    """Solve the grid of `axes` chunk by chunk: yields flat columns of the inputs and of `fields`. Memory stays bounded.

    `solve` is a model's `solve`; `fixed` are its other arguments (model, hardware, ...).
    """
    for arguments in chunks(axes, points):
        yield rows_of(solve(**(fixed or {}), **arguments), arguments, fields)


def write_parquet(
    columns: Iterator[dict[str, AnyArray]], path: str | Path, *, done: Callable[[int], None] | None = None
) -> int:
    """Write chunks to a Parquet file as they come; the file appears only when complete. Returns the number of rows.

    `done(rows)` is called after every chunk. Raises: FileFormatError when the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = 0
    first = next(columns, None)
    if first is None:
        return total
    with replacing(path) as own, pq.ParquetWriter(own, pa.table(first).schema) as writer:
        for chunk in itertools.chain([first], columns):
            table = pa.table(chunk)
            writer.write_table(table)
            total += table.num_rows
            if done is not None:
                done(table.num_rows)
    return total
