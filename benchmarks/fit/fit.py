"""Fit every operator's constants from the measured tables and write `catalog/efficiency/<machine>.yaml`.

python benchmarks/fit/fit.py [machine ...]      # the machines' own files
python benchmarks/fit/transfer.py               # the sets for machines never measured
python benchmarks/fit/card.py                   # docs/accuracy-operators.md
"""

from __future__ import annotations

import argparse
import datetime
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import other_labs
import tables
import yaml
from residuals import coverage, regimes
from solve import cross_validate, error, predict, solve
from tables import CATALOG, Problem

MIN_ROWS = 50
# One model on one TPU, where most sizes below 256 tokens take twice the time of larger ones: held-out sites miss by 68 %.
# The MI210 rows are one weight matrix at 22 heights: they inform the AMD defaults, and are a test.
NOT_FITTED = ("tpuv6e", "mi210")
OTHER_LABS = (
    "operator profiles of vidur (MIT, Microsoft) and LLMServingSim (MIT, CASYS Lab at KAIST); medians, no clocks given"
)
OTHER_SPLIT = "up to 5 folds, whole models held out (whole (n, k) sites where one model was measured)"
ATTRIBUTION = (
    "operator latencies (c) 2025-2026 NVIDIA CORPORATION & AFFILIATES, aiconfigurator-core 0.12.0, Apache-2.0; "
    "down-sampled; CUDA events around graph replays; streaming and p2p from vidur and LLMServingSim (MIT)"
)
SPLIT = (
    "5 folds, whole groups held out: GEMM (n, k); attention (heads, kv heads, head dim, window); MLA (heads, batch); "
    "MoE (hidden, inter, topk, experts); collectives (ranks, size); streaming (model, layer)"
)


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


def number(x: float) -> str:
    if x == float("inf"):
        return ".inf"
    if x != x:
        return ".nan"
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
    asked = parser.parse_args()
    for machine in asked.machines:
        own = machine in tables.SILICON
        source, split = (ATTRIBUTION, SPLIT) if own else (OTHER_LABS, OTHER_SPLIT)
        write(CATALOG / f"{machine}.yaml", source, split, fit_machine(machine, asked.ops))


if __name__ == "__main__":
    main()
