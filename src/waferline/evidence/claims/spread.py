"""How far published values lie from expected ones, by kind of load: intervals of claims are never narrower.

Intervals of the models cover kernels and steps. What a closed load's queue, a client's burst or an unnamed network
variant adds to them shows only against whole published rows: `data/spread.yaml`, fitted on half of the sources.
`python -m waferline.evidence.claims.spread` fits it anew.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from waferline.catalog.yaml_file import read_file
from waferline.evidence.request import Request

DATA = Path(__file__).parent / "data" / "spread.yaml"
_LEVELS = (0.025, 0.975)
_LEAST_ROWS = 30
_HALVES = 2


def kind(request: Request) -> str:
    """What rows are pooled by: door, load, and whether it is the first token, whose queue is its own."""
    first = " ttft" if request.answer == "ttft_s" and request.load == "closed" else ""
    return f"{request.door} {request.load}{first}"


@cache
def _table() -> Mapping[str, Any]:
    kinds: Mapping[str, Any] = read_file(DATA)["kinds"]
    return kinds


def spread(request: Request) -> tuple[float, float]:
    """(fast, slow): how many times faster and slower than expected 2.5 % of published values are; 1 where unknown."""
    row = _table().get(kind(request))
    return (float(row["fast"]), float(row["slow"])) if row else (1.0, 1.0)


def is_fitted_on(source: str) -> bool:
    """True for the sources that the table is fitted on; the others check it."""
    return zlib.crc32(source.encode()) % _HALVES == 0


def fit(faster: Iterable[tuple[str, str, float]]) -> dict[str, Any]:
    """The table from (kind, source, how many times faster than expected) of sound rows, with what it covers elsewhere."""
    by_kind: dict[str, list[tuple[bool, float]]] = {}
    for name, source, ratio in faster:
        by_kind.setdefault(name, []).append((is_fitted_on(source), math.log(ratio)))
    kinds = {}
    for name, rows in sorted(by_kind.items()):
        fitted, others = (np.array([x for mine, x in rows if mine is wanted]) for wanted in (True, False))
        if len(fitted) < _LEAST_ROWS:
            continue
        slow, fast = np.quantile(fitted, _LEVELS)
        kinds[name] = {
            "fast": round(float(np.exp(max(fast, 0.0))), 3),
            "slow": round(float(np.exp(max(-slow, 0.0))), 3),
            "rows": len(fitted),
            "left_out_rows": len(others),
            "left_out_faster": round(float(np.mean(others > fast)), 4) if len(others) else None,
        }
    return kinds


def main() -> None:
    """Fit on the published rows at hand and write the table."""
    from waferline.evidence.check import check
    from waferline.evidence.folder import evidence_rows
    from waferline.evidence.scenario import request_of

    pairs = []
    for o in check(evidence_rows()).outcomes:
        request = request_of(o.row)
        if o.scored and isinstance(request, Request):
            pairs.append((kind(request), o.row.source, math.exp(o.slower)))
    note = (
        "# How many times faster and slower than expected 2.5 % of published values are; sources split in two halves.\n"
    )
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text(note + yaml.safe_dump({"kinds": fit(pairs)}, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
