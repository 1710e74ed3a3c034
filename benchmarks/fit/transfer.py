"""Fit the sets for machines never measured: all measured machines of a vendor together, checked with each one left out.

Rows are thinned so that every machine weighs the same. The error and residual quantiles are those of machines left out and
predicted from their specification sheet alone.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import yaml

from benchmarks.fit.operators import all_problems
from benchmarks.fit.parameters import Parameter
from benchmarks.fit.record import write
from benchmarks.fit.residuals import covered, regimes
from benchmarks.fit.solve import COLLECTIVES, cross_validate, error, predict, solve
from benchmarks.fit.tables import CATALOG, MACHINES, Problem
from waferline.predict.efficiency.lent import REFERENCE, as_on, pace

ROWS_PER_MACHINE = 400
ENOUGH_COVERAGE = 0.88
LONE_WIDENING = 3.0  # boards differ in switches and roots more than in links
# What follows a machine's sheet is a rule for all operators (`lent.py`), and not fitted. MLA's decode has figures of its own: its
# kernels reach more of the peak the newer the matrix units (means over machines left out: 21 and 29 % against 29 and 38).
OWN_RULES = {
    "mla_decode": (Parameter("feeding", 2.3, -40, 100, 1e-5), Parameter("bandwidth_power", -0.1, -0.7, 0.2)),
}
WIDENINGS = (1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0)


def thin(problem: Problem) -> Problem:
    step = max(1, len(problem) // ROWS_PER_MACHINE)
    return problem.take(np.arange(0, len(problem), step))


def seconds(problem: Problem, c: dict[str, float]) -> np.ndarray:
    """What constants quoted at the reference sheet say on the problem's machine."""
    return predict(
        problem, c if problem.device is None else as_on(c, problem.op, problem.fmt, REFERENCE, pace(problem.device))
    )


def pooled(problems: list[Problem]) -> dict[str, float]:
    """Constants for all of `problems`, quoted at the reference sheet."""
    thinned = [thin(p) for p in problems]
    weights = [float(np.sqrt(ROWS_PER_MACHINE / len(p))) for p in thinned]
    return solve(thinned, weights, seconds, OWN_RULES.get(problems[0].op, ()))


def left_out(problems: list[Problem]) -> list[np.ndarray]:
    """Each machine's seconds from constants fitted on the others."""
    return [seconds(p, pooled([o for o in problems if o.machine != p.machine])) for p in problems]


def stretched(table: list[list[float]], factor: float) -> list[list[float]]:
    return [[row[0], *(factor * q for q in row[1:])] for row in table]


def widened(predicted: np.ndarray, measured: np.ndarray, owner: np.ndarray) -> tuple[float, float]:
    """The least widening with which the other machines' quantiles cover a left-out machine as they should, and that coverage.

    Few machines say little about the next one: their spread among themselves is too narrow by this factor.
    """
    for factor in WIDENINGS:
        hits = []
        for machine in np.unique(owner):
            mine = owner == machine
            table = stretched(regimes(predicted[~mine], measured[~mine]), factor)
            hits.append(covered(table, predicted[mine], measured[mine]).mean())
        if np.mean(hits) >= ENOUGH_COVERAGE:
            break
    return factor, float(np.mean(hits))


def entry(problems: list[Problem]) -> dict:
    out = left_out(problems)
    per_machine = {p.machine: error(s, p.t_s) for p, s in zip(problems, out, strict=True)}
    picks = [np.arange(0, len(p), max(1, len(p) // ROWS_PER_MACHINE)) for p in problems]
    predicted, measured = (
        np.concatenate([a[i] for a, i in zip(arrays, picks, strict=True)])
        for arrays in (out, [p.t_s for p in problems])
    )
    owner = np.concatenate([np.full(len(i), p.machine) for p, i in zip(problems, picks, strict=True)])
    widening, covers = widened(predicted, measured, owner)
    medians, p90s = zip(*per_machine.values(), strict=True)
    return {
        "rows": sum(map(len, problems)),
        "groups": len(problems),
        "median": float(np.median(medians)),
        "p90": float(np.median(p90s)),
        "coverage90": covers,
        "widening": widening,
        "by_machine": {m: e[0] for m, e in per_machine.items()},
        "c": pooled(problems),
        "residual": stretched(regimes(predicted, measured), widening),
    }


def lone(problem: Problem) -> dict:
    """A collective that one machine of the vendor was measured with (PCIe): its constants, no machine to leave out."""
    held_out_s = cross_validate(problem)
    table = stretched(regimes(held_out_s, problem.t_s), LONE_WIDENING)
    card = {"rows": len(problem), "groups": 1, "median": float("nan"), "p90": float("nan"), "coverage90": float("nan")}
    return card | {"widening": LONE_WIDENING, "by_machine": {}, "c": pooled([problem]), "residual": table}


def vendor_set(vendor: str, ops: Iterable[str] = ()) -> dict:
    families: dict = defaultdict(list)
    for p in all_problems():
        if MACHINES[p.machine]["facts"]["vendor"] == vendor and (not ops or p.op in ops):
            families[(p.op, p.fmt, p.engine)].append(p)
    records: dict = defaultdict(lambda: defaultdict(dict))
    for (op, fmt, engine), problems in families.items():
        problems = list({p.machine: p for p in problems}.values())
        if len(problems) < 2:
            if op in COLLECTIVES:
                records[op][fmt][engine] = lone(problems[0])
            continue
        if op == "moe" and len({p.rows.kernel.iloc[0] for p in problems}) == len(problems):
            continue  # a kernel each: they say nothing about a third machine
        records[op][fmt][engine] = result = entry(problems)
        shown = " ".join(f"{m} {e:.0%}" for m, e in result["by_machine"].items())
        print(
            f"{op:18s}{fmt:10s}{engine:28s} {result['median']:.1%} (p90 {result['p90']:.0%}) "
            f"cover {result['coverage90']:.0%}  {shown}",
            flush=True,
        )
    return {
        op: {fmt: dict(sorted(e.items(), key=lambda kv: np.nan_to_num(kv[1]["median"]))) for fmt, e in formats.items()}
        for op, formats in records.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", nargs="*", default=[], help="fit only these operators anew")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    path = CATALOG / "transfer-nvidia-gpu.yaml"
    kept = yaml.safe_load(path.read_text())["records"] if asked.ops else {}
    records = kept | vendor_set("nvidia", asked.ops)
    if asked.write:
        write(path, "records", records, depth=2)


if __name__ == "__main__":
    main()
