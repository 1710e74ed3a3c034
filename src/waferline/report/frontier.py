"""A Pareto front as a table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from waferline.report.table import Block, Column, Table
from waferline.search.frontier import Frontier
from waferline.text import number


def frontier_report(front: Frontier) -> Iterator[Block]:
    """The front's points; what they all share is said once, below."""
    chosen = {o.column for o in front.objectives}
    shown = [n for n, v in front.columns.items() if n in chosen or np.unique(v).size > 1]
    columns = [Column(n, number) if front.columns[n].dtype.kind in "iuf" else Column(n) for n in shown]
    rows = list(zip(*(front.columns[n].tolist() for n in shown), strict=True))
    best = " and ".join(f"{'high' if o.most else 'low'} {o.column}" for o in front.objectives)
    shared = ", ".join(f"{n} {v[0]}" for n, v in front.columns.items() if n not in shown and v.size)
    title = f"{len(rows)} of {front.points:,} points: no other has as {best}"
    yield Table(title, columns, rows, (f"all: {shared}",) if shared else ())
