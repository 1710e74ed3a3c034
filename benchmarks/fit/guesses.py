"""Find how wide a prediction is of which something was guessed: `python -m benchmarks.fit.guesses [--shared PATH] [--write]`.

Rows: those of the evidence of which the count of devices, their groups, a benchmark's texts, a format or a run's convergence
was assumed. For each kind of guess the least spread with which nine in ten rows of a random half of the sources are covered: the
median over many halves; what it covers is the mean over the other halves, each with the spreads of its own half alone. Nothing else
of a prediction is fitted here.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.fit.record import write
from waferline.arrays import FloatArray
from waferline.evidence.answer import Answer
from waferline.evidence.ask import ask
from waferline.evidence.folder import evidence_rows
from waferline.evidence.request import Request
from waferline.evidence.rows import KINDS, Row
from waferline.evidence.scenario import request_of
from waferline.fit import BoolArray

OUT = Path(__file__).parents[2] / "src" / "waferline" / "evidence" / "data" / "guesses.yaml"
GUESSES = ("devices", "group", "benchmark", "format", "convergence", "step")
COVERED, HALVES, ROUNDS = 0.9, 100, 20


@dataclass(frozen=True)
class Cases:
    """Rows with a guess. needs: the square of the spread (log) with which each is covered; made: (row, kind of guess)."""

    units: list[tuple[str, str]]
    needs: FloatArray
    made: BoolArray


def needed(row: Row, a: Answer) -> float:
    """The square of the least spread that covers a row beside the interval it has; infinite beyond the bound."""
    if a.light is None or (row.value > a.light) == (a.light >= a.value):
        return math.inf
    error = math.log(row.value / a.value)
    own = math.log((a.high90 if error > 0 else a.low90) / a.value)
    return max(error**2 - own**2, 0.0)


def cases(rows: Sequence[Row]) -> Cases:
    """Measured rows of which something was guessed. Left out as a whole: a source, or a model of one that alone makes a guess."""
    asked = [(row, request_of(row)) for row in rows if not row.suspect and row.kind == KINDS[0]]
    guessed = [(row, q) for row, q in asked if isinstance(q, Request) and q.guesses]
    answered = zip(guessed, ask([replace(q, guesses=()) for _, q in guessed]), strict=True)
    found = [(row, q.guesses, a) for (row, q), a in answered if isinstance(a, Answer)]
    sources = {made: {r.source for r, other, _ in found if other == made} for _, made, _ in found}
    return Cases(
        units=[(row.source, row.model if len(sources[made]) == 1 else "") for row, made, _ in found],
        needs=np.array([needed(row, a) for row, _, a in found]),
        made=np.array([[kind in made for kind in GUESSES] for _, made, _ in found]),
    )


def fit(c: Cases, seen: BoolArray) -> FloatArray:
    """The square of the least spread of each kind, with those of the others as they are."""
    squares = np.zeros(len(GUESSES))
    for _ in range(ROUNDS):
        for k in range(len(GUESSES)):
            mine = seen & c.made[:, k]
            if mine.any():
                lacks = c.needs[mine] - c.made[mine] @ squares + squares[k]
                squares[k] = max(float(np.quantile(lacks, COVERED, method="higher")), 0.0)
    return squares


def covered(c: Cases, of: BoolArray, squares: FloatArray) -> float:
    return float(np.mean(c.needs[of] <= c.made[of] @ squares)) if of.any() else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    c = cases(evidence_rows(arguments.shared))
    units, draw = sorted(set(c.units)), np.random.default_rng(0)
    fits, shares = [], []
    for _ in range(HALVES):
        half = {units[i] for i in draw.permutation(len(units))[: len(units) // 2]}
        seen = np.array([unit in half for unit in c.units])
        fits.append(fit(c, seen))
        shares.append([covered(c, ~seen & c.made[:, k], fits[-1]) for k in range(len(GUESSES))])
    spreads, left = np.sqrt(np.median(fits, axis=0)), np.nanmean(shares, axis=0)
    table = {}
    for k, kind in enumerate(GUESSES):
        of = c.made[:, k]
        sources = Counter(unit for unit, is_of in zip(c.units, of, strict=True) if is_of)
        table[kind] = {"spread": round(float(spreads[k]), 2), "rows": int(of.sum()), "units": len(sources)}
        table[kind] |= {"covered": round(float(left[k]), 3)}
        without = covered(c, of, np.zeros(len(GUESSES)))
        print(kind, table[kind], f"without {without:.3f}, with {covered(c, of, spreads**2):.3f}")
    if arguments.write:
        write(OUT, "guesses", table, depth=1)


if __name__ == "__main__":
    main()
