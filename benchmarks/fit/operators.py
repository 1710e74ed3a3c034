"""Fit every operator's constants from the measured tables and write `catalog/efficiency/<machine>.yaml`.

Run: `python -m benchmarks.fit operators [MACHINE ...]`; the sets for machines never measured are `benchmarks.fit.transfer`'s.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import yaml

from benchmarks.fit import other_labs, tables
from benchmarks.fit.record import write
from benchmarks.fit.residuals import coverage, regimes
from benchmarks.fit.solve import cross_validate, error, predict, solve
from benchmarks.fit.tables import CATALOG, Problem

MIN_ROWS = 50
# One model on one TPU, where most sizes below 256 tokens take twice the time of larger ones: held-out sites miss by 68 %.
# The MI210 rows are one weight matrix at 22 heights: they inform the AMD defaults, and are a test.
NOT_FITTED = ("tpuv6e", "mi210")


def all_problems(machines: Iterable[str] = ()) -> list[Problem]:
    """Every problem to fit; other labs' GEMM rows only for machines that the main collection lacks."""
    found = [
        *tables.gemm(),
        *tables.attention("decode"),
        *tables.attention("prefill"),
        *tables.mla("decode"),
        *tables.mla("prefill"),
        *tables.moe(),
        *tables.collectives(),
        *other_labs.streaming(),
        *other_labs.p2p(),
        *(replace(p, engine="default") for p in other_labs.gemm() if p.machine not in (*tables.SILICON, *NOT_FITTED)),
    ]
    wanted = set(machines)
    return [
        p
        for p in found
        if (len(p) >= MIN_ROWS or p.machine not in tables.SILICON or p.op == "p2p")
        and (not wanted or p.machine in wanted)
    ]


def entry(problem: Problem, held_out_s: np.ndarray, c: dict[str, float]) -> dict:
    median, p90 = error(held_out_s, problem.t_s)
    return {
        "rows": len(problem),
        "groups": int(problem.group.max()) + 1,
        "median": median,
        "p90": p90,
        "coverage90": coverage(held_out_s, problem.t_s, problem.group),
        "c": c,
        "residual": regimes(held_out_s, problem.t_s),
    }


def speed(problem: Problem, c: dict[str, float], reference: Problem) -> float:
    """Mean log seconds of `c` on another engine's rows: which kernel family is the faster on the same work."""
    return float(np.mean(np.log(predict(reference, c))))


def order_engines(fits: dict[str, tuple[Problem, dict]]) -> list[str]:
    reference = next(iter(fits.values()))[0]
    return sorted(fits, key=lambda e: (e.endswith("_eager"), speed(fits[e][0], fits[e][1]["c"], reference)))


def fit_machine(machine: str, ops: Iterable[str] = ()) -> dict:
    """Every record of one machine; with `ops`, those operators anew and the others as the file has them."""
    grouped: dict = defaultdict(lambda: defaultdict(dict))
    for p in all_problems([machine]):
        if ops and p.op not in ops:
            continue
        result = entry(p, cross_validate(p), solve([p]))
        grouped[p.op][p.fmt][p.engine] = (p, result)
        shown = f"{result['median']:.1%} ({result['p90']:.0%})  cover {result['coverage90']:.0%}"
        print(f"{machine:12s}{p.op:18s}{p.fmt:10s}{p.engine:28s}{len(p):6d}  {shown}", flush=True)
    fitted = {
        op: {fmt: {e: engines[e][1] for e in order_engines(engines)} for fmt, engines in formats.items()}
        for op, formats in grouped.items()
    }
    return (yaml.safe_load((CATALOG / f"{machine}.yaml").read_text())["records"] | fitted) if ops else fitted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machines", nargs="*", default=[m for m in tables.MACHINES if m not in NOT_FITTED])
    parser.add_argument("--ops", nargs="*", default=[], help="fit only these operators anew")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    for machine in asked.machines:
        records = fit_machine(machine, asked.ops)
        if asked.write:
            write(CATALOG / f"{machine}.yaml", "records", records, depth=2)


if __name__ == "__main__":
    main()
