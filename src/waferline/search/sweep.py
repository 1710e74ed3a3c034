"""Sweeps of any size in bounded memory: a grid is solved in chunks, and each chunk is written or summed up at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from waferline.arrays import AnyArray
from waferline.errors import InvalidInputError
from waferline.files import replacing
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.predict.shortcut import grid
from waferline.units import unit_of

CHUNK_POINTS = 100_000  # large enough that NumPy's overhead vanishes, small enough to stay in cache-sized buffers

Columns = dict[str, AnyArray]


def chunks(axes: Mapping[str, Sequence[Any] | AnyArray], points: int = CHUNK_POINTS) -> Iterator[Columns]:
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


def solve_chunk(
    scenario: Scenario, arguments: Mapping[str, Any], fields: Mapping[str, float | str], labels: Columns
) -> Columns:
    """One sub-grid solved: labels, inputs and `fields` as flat columns. A field that the answer lacks (the price of a machine
    that nobody sells) has the value that `fields` gives it."""
    values = run(replace(scenario, **arguments)).result.values
    shape = np.broadcast_shapes(*(v.shape for v in arguments.values()))
    columns = labels | dict(arguments) | {name: values.get(name, np.asarray(blank)) for name, blank in fields.items()}
    return {name: np.broadcast_to(value, shape).ravel() for name, value in columns.items()}


def sweep(
    scenario: Scenario,
    axes: Mapping[str, Sequence[Any] | AnyArray],
    fields: Sequence[str],
    *,
    points: int = CHUNK_POINTS,
) -> Iterator[Columns]:
    """`scenario` over the grid of `axes` (fields of it that broadcast), chunk by chunk: flat columns of the inputs and of
    `fields`. Memory stays bounded."""
    for arguments in chunks(axes, points):
        yield solve_chunk(scenario, arguments, dict.fromkeys(fields, math.nan), {})


def write_parquet(columns: Iterator[Columns], path: str | Path, *, done: Callable[[int], None] | None = None) -> int:
    """Write chunks to a Parquet file as they come; the file appears only when complete. Returns the number of rows.

    Columns carry their unit as metadata. `done(rows)` is called after every chunk. Raises: FileFormatError when the file cannot
    be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = 0
    first = next(columns, None)
    if first is None:
        return total
    plain = pa.table(first).schema
    units = {name: unit_of(name) for name in plain.names}
    schema = pa.schema([f.with_metadata({"unit": units[f.name]}) if units[f.name] else f for f in plain])
    with replacing(path) as own, pq.ParquetWriter(own, schema) as writer:
        for chunk in itertools.chain([first], columns):
            table = pa.table(chunk).cast(schema)
            writer.write_table(table)
            total += table.num_rows
            if done is not None:
                done(table.num_rows)
    return total
