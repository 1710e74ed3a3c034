"""Fit the host's time of eager drafting, `catalog/techniques.yaml: drafting: eager`: `python -m benchmarks.fit drafting [--write]`.

Rows: the speed-ups of Spec-Bench, whose harness is eager PyTorch. They rest on the times of the engine: run it after `engines`. Two
numbers of least mean log error on a grid; what each says of a model that it did not see is printed beside.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from waferline.evidence import techniques
from waferline.evidence.folder import evidence_folder
from waferline.evidence.request import Refusal

OUT = Path("src/waferline/catalog/techniques.yaml")
SOURCE = "Spec-Bench"
PASS_MS, CYCLE_MS = np.arange(0.0, 4.01, 0.25), np.arange(0.0, 20.01, 1.0)
_HOST = "waferline.predict.techniques.speculative._host_s"


class Seconds(NamedTuple):
    """A row: seconds a token without drafts and with them where the host takes nothing, and what a second of a cycle or of a
    drafter's pass adds to the latter."""

    model: str
    speedup: float
    plain_s: float
    drafted_s: float
    cycle: float
    passes: float


def rows_of(effects: Sequence[techniques.Effect]) -> list[Seconds]:
    """The rows that are answered."""
    found = []
    for effect in effects:
        ways = techniques.compared(effect)
        if not effect.row.source.startswith(SOURCE) or isinstance(ways, Refusal) or ways[1] is None:
            continue
        seconds = []
        for scenario, cycle_s, pass_s in ((ways[1], 0, 0), (ways[0], 0, 0), (ways[0], 1, 0), (ways[0], 0, 1)):
            with mock.patch(_HOST, lambda engine, passes, c=cycle_s, p=pass_s: c + p * passes):
                seconds.append(1.0 / techniques.value_of(scenario, "decoded_tokens_per_s"))
        plain, free, cycle, passes = seconds
        found.append(Seconds(effect.row.model, effect.row.value, plain, free, cycle - free, passes - free))
    return found


def errors(rows: Sequence[Seconds], pass_s: float, cycle_s: float) -> np.ndarray:
    """log(predicted / published) of every row's speed-up."""
    return np.array(
        [np.log(r.plain_s / (r.drafted_s + cycle_s * r.cycle + pass_s * r.passes) / r.speedup) for r in rows]
    )


def fitted(rows: Sequence[Seconds]) -> tuple[float, float]:
    """(seconds of a drafter's pass, seconds of a cycle)."""
    grid = product(PASS_MS * 1e-3, CYCLE_MS * 1e-3)
    return min(((float(p), float(c)) for p, c in grid), key=lambda at: float(np.mean(np.abs(errors(rows, *at)))))


def _told(name: str, rows: Sequence[Seconds], at: tuple[float, float]) -> None:
    off = np.median(np.abs(np.expm1(errors(rows, *at))))
    print(f"{name}: pass {at[0] * 1e3:g} ms, cycle {at[1] * 1e3:g} ms, {len(rows)} rows {off:.1%} off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.shared / "evidence" if arguments.shared else evidence_folder()
    if folder is None:
        raise SystemExit("no folder of evidence: --shared names one")
    rows = rows_of(techniques.read_effects(folder / "techniques.csv.gz"))
    for model in sorted({r.model for r in rows}):
        at = fitted([r for r in rows if r.model != model])
        _told(f"{model} left out", [r for r in rows if r.model == model], at)
    best = fitted(rows)
    _told("all", rows, best)
    if arguments.write:
        line = f"  eager: {{pass_s: {best[0]:.3g}, cycle_s: {best[1]:.3g},"
        OUT.write_text(
            re.sub(r"  eager: \{pass_s: \S+ cycle_s: \S+,", line, OUT.read_text(encoding="utf-8")), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
