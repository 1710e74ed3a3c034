"""Pareto fronts: the points that no other point beats in everything at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.arrays import AnyArray
from waferline.errors import FileFormatError, InvalidInputError, unknown
from waferline.units import unit_of

_MORE_IS_BETTER = ("mfu", "mbu", "hfu", "max_batch_size", "running_sequences")


def pareto(
    columns: Mapping[str, AnyArray], least: Sequence[str] = (), most: Sequence[str] = ()
) -> npt.NDArray[np.intp]:
    """Indices of the points that no other point beats in all of `least` (smaller is better) and `most` at once."""
    scores = np.column_stack([*(columns[n] for n in least), *(-np.asarray(columns[n]) for n in most)]).astype(float)
    order = np.lexsort(scores.T[::-1])
    if (
        scores.shape[1] == 2
    ):  # in the order of the first score a point stands when it is below all before it in the second
        second = scores[order, 1]
        before = np.concatenate([[np.inf], np.minimum.accumulate(second)[:-1]])
        return np.sort(order[second < before])
    kept: list[int] = []
    for i in order:
        if not kept or not np.any(np.all(scores[kept] <= scores[i], axis=1)):
            kept.append(int(i))
    return np.array(sorted(kept), dtype=np.intp)


def more_is_better(name: str) -> bool:
    """Whether a field is one to raise (rates and utilisations) or to lower (times, energy, cost, memory)."""
    return unit_of(name).endswith("/s") or name.endswith(_MORE_IS_BETTER)


@dataclass(frozen=True)
class Frontier:
    """The front of a file of points: columns of its rows, in the order of `x`, and how many points there were."""

    x: str
    y: str
    points: int
    columns: Mapping[str, AnyArray]

    def to_json(self) -> dict[str, Any]:
        names = list(self.columns)
        rows = [dict(zip(names, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]
        return {"x": self.x, "y": self.y, "points": self.points, "front": rows}


def frontier(path: str | Path, x: str, y: str) -> Frontier:
    """The points of a Parquet file that fit and that no other beats in both `x` and `y`.

    Raises: UnknownNameError for a column that is not there, InvalidInputError for one that is no number, FileFormatError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        for name in (x, y):
            if name not in names:
                raise unknown("column", name, names, where=str(path))
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        reason = getattr(error, "strerror", None) or "not a Parquet file"
        raise FileFormatError(f"cannot be read: {reason}", where=str(path)) from None
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in names}
    for name in (x, y):
        if columns[name].dtype.kind not in "iuf":
            raise InvalidInputError(f"column '{name}' does not hold numbers", where=str(path))
    fits = np.isfinite(columns[x].astype(float)) & np.isfinite(columns[y].astype(float))
    if "feasible" in columns:
        fits &= columns["feasible"].astype(bool)
    columns = {name: values[fits] for name, values in columns.items()}
    sides = {True: [n for n in (x, y) if more_is_better(n)], False: [n for n in (x, y) if not more_is_better(n)]}
    front = pareto(columns, least=sides[False], most=sides[True])
    front = front[np.argsort(columns[x][front], kind="stable")]
    return Frontier(x, y, int(fits.sum()), {name: values[front] for name, values in columns.items()})
