"""What a sweep asserts of its points: `itl_s<=0.05` of every one that fits, `some throughput>=5000` of one at least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waferline.arrays import AnyArray
from waferline.search.goal import Bound

_SOME = "some "


@dataclass(frozen=True, slots=True)
class Assertion:
    """A bound on every point that fits and has the field, or on one of them at least."""

    text: str
    bound: Bound
    some: bool

    @staticmethod
    def of(text: str) -> Assertion:
        """Raises: InvalidInputError."""
        return Assertion(text, Bound.of(text.removeprefix(_SOME)), text.startswith(_SOME))

    def column(self, fields: Sequence[str]) -> str:
        """The field that is looked at: of its names the one that the sweep writes, else the first."""
        return next((name for name in self.bound.fields if name in fields), self.bound.fields[0])


@dataclass(frozen=True, slots=True)
class Verdict:
    """holds: whether it does; points: that fit; misses: of them; first: the first that misses, by column."""

    text: str
    holds: bool
    points: int
    misses: int
    first: Mapping[str, Any] | None


def asserted(path: Path, assertions: Sequence[Assertion]) -> list[Verdict]:
    """Every assertion held against the points of a Parquet file, a part of it at a time."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    points, misses = np.zeros(len(assertions), int), np.zeros(len(assertions), int)
    first: list[Mapping[str, Any] | None] = [None] * len(assertions)
    for batch in file.iter_batches():
        columns: dict[str, AnyArray] = {n: batch.column(n).to_numpy(zero_copy_only=False) for n in names}
        for i, one in enumerate(assertions):
            values = columns[one.column(names)].astype(float)
            fits = np.isfinite(values)
            if "feasible" in columns and one.column(names) != "feasible":
                fits &= columns["feasible"].astype(bool)
            inside = values <= one.bound.limit if one.bound.most else values >= one.bound.limit
            missed = np.flatnonzero(fits & ~inside)
            points[i] += fits.sum()
            misses[i] += missed.size
            if first[i] is None and missed.size:
                first[i] = {n: c[missed[0]] for n, c in columns.items()}
    return [
        Verdict(one.text, bool(n > m if one.some else n and not m), int(n), int(m), at)
        for one, n, m, at in zip(assertions, points, misses, first, strict=True)
    ]
