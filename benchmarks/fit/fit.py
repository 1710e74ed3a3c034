"""Fit every operator's constants from the measured tables and write `catalog/efficiency/<machine>.yaml`.

python benchmarks/fit/fit.py [machine ...]      # the machines' own files
python benchmarks/fit/transfer.py               # the sets for machines never measured
python benchmarks/fit/card.py                   # docs/accuracy-operators.md
"""

from __future__ import annotations

import datetime
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tables
from residuals import coverage, regimes
from solve import cross_validate, error, predict, solve
from tables import CATALOG, Problem

MIN_ROWS = 50
ATTRIBUTION = "operator latencies (c) 2025-2026 NVIDIA CORPORATION & AFFILIATES, aiconfigurator-core 0.12.0, Apache-2.0; down-sampled; CUDA events around graph replays"
SPLIT = "5 folds, whole groups held out: GEMM (n, k); attention (heads, kv heads, head dim, window); MLA (heads, batch); MoE (hidden, inter, topk, experts); collectives (ranks, size)"


def all_problems(machines: Iterable[str] = ()) -> list[Problem]:
    found = [
        *tables.gemm(), *tables.attention("decode"), *tables.attention("prefill"),
        *tables.mla("decode"), *tables.mla("prefill"), *tables.moe(), *tables.collectives(),
    ]  # fmt: skip
    wanted = set(machines)
    return [p for p in found if len(p) >= MIN_ROWS and (not wanted or p.machine in wanted)]


def entry(problem: Problem, held_out_s: np.ndarray, c: dict[str, float]) -> dict:
    median, p90 = error(held_out_s, problem.t_s)
    return {
        "rows": len(problem), "groups": int(problem.group.max()) + 1, "median": median, "p90": p90,
        "coverage90": coverage(held_out_s, problem.t_s, problem.group), "c": c, "residual": regimes(held_out_s, problem.t_s),
    }  # fmt: skip


def number(x: float) -> str:
    if x == float("inf"):
        return ".inf"
    text = f"{x:.4g}"
    if "e" in text:  # YAML 1.1 reads 1e-06 as text unless the mantissa has a point
        mantissa, exponent = text.split("e")
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"
    return text


def flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(v) for v in value) + "]"
    return number(value) if isinstance(value, int | float) else str(value)


def write(path: Path, source: str, split: str, records: dict) -> None:
    """op -> format -> engine (the faster first) -> card and constants, one record a line."""
    lines = [f"date: {datetime.date.today().isoformat()}", f'source: "{source}"', f'split: "{split}"', "records:"]
    for op, formats in records.items():
        lines.append(f"  {op}:")
        for fmt, engines in formats.items():
            lines.append(f"    {fmt}:")
            lines += [f"      {engine}: {flow(value)}" for engine, value in engines.items()]
    path.write_text("\n".join(lines) + "\n")


def speed(problem: Problem, c: dict[str, float], reference: Problem) -> float:
    """Mean log seconds of `c` on another engine's rows: which kernel family is the faster on the same work."""
    return float(np.mean(np.log(predict(reference, c))))


def order_engines(fits: dict[str, tuple[Problem, dict]]) -> list[str]:
    reference = next(iter(fits.values()))[0]
    return sorted(fits, key=lambda e: (e.endswith("_eager"), speed(fits[e][0], fits[e][1]["c"], reference)))


def fit_machine(machine: str) -> dict:
    grouped: dict = defaultdict(lambda: defaultdict(dict))
    for p in all_problems([machine]):
        result = entry(p, cross_validate(p), solve([p]))
        grouped[p.op][p.fmt][p.engine] = (p, result)
        print(
            f"{machine:12s}{p.op:18s}{p.fmt:10s}{p.engine:28s}{len(p):6d}  {result['median']:.1%} ({result['p90']:.0%})  cover {result['coverage90']:.0%}",
            flush=True,
        )
    return {
        op: {fmt: {e: engines[e][1] for e in order_engines(engines)} for fmt, engines in formats.items()}
        for op, formats in grouped.items()
    }


def main() -> None:
    for machine in sys.argv[1:] or tables.MACHINES:
        write(CATALOG / f"{machine}.yaml", ATTRIBUTION, SPLIT, fit_machine(machine))


if __name__ == "__main__":
    main()
