"""Pareto fronts: the points that no other point beats in everything at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.arrays import AnyArray
from waferline.catalog.text_file import check_regular
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


@dataclass(frozen=True, slots=True)
class Objective:
    """A column to make large (`most`) or small."""

    column: str
    most: bool

    @staticmethod
    def of(text: str) -> Objective:
        """`itl_s` as its name says (see `more_is_better`), or `min:itl_s`, `max:mfu`. Raises: InvalidInputError."""
        way, _, column = text.strip().rpartition(":")
        if way not in ("", "min", "max"):
            raise InvalidInputError(f"'{text}' is not a column, nor min:COLUMN or max:COLUMN")
        return Objective(column, more_is_better(column) if not way else way == "max")


@dataclass(frozen=True)
class Frontier:
    """The front of a file of points: columns of its rows, in the order of the first objective, and how many points there were."""

    objectives: tuple[Objective, ...]
    points: int
    columns: Mapping[str, AnyArray]

    def to_json(self) -> dict[str, Any]:
        names = list(self.columns)
        rows = [dict(zip(names, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]
        told = [{"column": o.column, "best": "high" if o.most else "low"} for o in self.objectives]
        return {"objectives": told, "points": self.points, "front": rows}


def frontier(path: str | Path, *objectives: str) -> Frontier:
    """The points of a Parquet file that fit and that no other beats in all `objectives` (two or more) at once.

    Raises: UnknownNameError for a column that is not there, InvalidInputError for one that is no number, FileFormatError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    asked = tuple(Objective.of(text) for text in objectives)
    chosen = [o.column for o in asked]
    if len(set(chosen)) != len(chosen) or len(chosen) < 2:
        raise InvalidInputError("a front needs two objectives or more, each another column")
    check_regular(Path(path))
    try:
        names = pq.read_schema(path).names
        for name in chosen:
            if name not in names:
                raise unknown("column", name, names, where=str(path))
        table = pq.read_table(path)
    except (OSError, UnicodeError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or "not a Parquet file"
        raise FileFormatError(f"cannot be read: {reason}", where=str(path)) from None
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in names}
    for name in chosen:
        if columns[name].dtype.kind not in "iuf":
            raise InvalidInputError(f"column '{name}' does not hold numbers", where=str(path))
    fits = np.all([np.isfinite(columns[name].astype(float)) for name in chosen], axis=0)
    if "feasible" in columns:
        fits &= columns["feasible"].astype(bool)
    columns = {name: values[fits] for name, values in columns.items()}
    front = pareto(columns, least=[o.column for o in asked if not o.most], most=[o.column for o in asked if o.most])
    front = front[np.argsort(columns[chosen[0]][front], kind="stable")]
    return Frontier(asked, int(fits.sum()), {name: values[front] for name, values in columns.items()})
