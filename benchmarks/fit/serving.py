"""What is left between simulated and published serving runs: `python -m benchmarks.fit.serving [--write]`.

Nothing of the simulator is fitted on these runs; here its intervals are, as quantiles of log(measured / simulated) by class of
metric. Coverage is counted on models left out. Peers' published predictions of the same runs are scored beside.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fit.record import write
from waferline.arrays import FloatArray
from waferline.evidence.folder import evidence_folder
from waferline.evidence.outcome import Outcome
from waferline.evidence.serving_runs import METRICS, check_runs, read_runs, residual_class

CATALOG = Path("src/waferline/catalog/serving_fits.yaml")
RESULTS = Path(__file__).parents[1] / "results" / "serving.json"
ENDS = (0.05, 0.95)
LEAST_ROWS = 20  # of a class of metric, for quantiles of its own


def _log(outcomes: Sequence[Outcome]) -> FloatArray:
    """log(measured / simulated)."""
    return np.log([o.row.value / (o.predicted or np.nan) for o in outcomes])


def residuals(outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    """Quantiles by class of metric."""
    classes = dict.fromkeys(residual_class(m) for m in METRICS)
    found = {c: _log([o for o in outcomes if residual_class(o.row.metric) == c]) for c in classes}
    return {c: np.quantile(e, ENDS).round(4).tolist() for c, e in found.items() if e.size >= LEAST_ROWS}


def covered(outcomes: Sequence[Outcome]) -> float:
    """Share of rows inside the interval that all other models give."""
    inside = total = 0
    for model in {o.row.model for o in outcomes}:
        ends = residuals([o for o in outcomes if o.row.model != model])
        mine = [o for o in outcomes if o.row.model == model and residual_class(o.row.metric) in ends]
        total += len(mine)
        inside += sum(
            ends[residual_class(o.row.metric)][0] <= e <= ends[residual_class(o.row.metric)][1]
            for o, e in zip(mine, _log(mine), strict=True)
        )
    return inside / max(total, 1)


def _errors(ratios: Sequence[float]) -> dict[str, float]:
    e = np.abs(np.asarray(ratios) - 1.0)
    return {"rows": e.size, "median": round(float(np.median(e)), 4), "p90": round(float(np.quantile(e, 0.9)), 4)}


def peers(path: Path, outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Errors of other simulators and of this one, on the metrics that both answer."""
    mine = {(o.row.id, o.row.metric): o for o in outcomes}
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            o = mine.get((row["run_id"], row["metric"]))
            if o is not None:
                pair = float(row["predicted"]) / o.row.value, (o.predicted or np.nan) / o.row.value
                found.setdefault((row["simulator"], row["metric"]), []).append(pair)
    table: dict[str, dict[str, Any]] = {}
    for (simulator, metric), pairs in sorted(found.items()):
        its, ours = zip(*pairs, strict=True)
        table.setdefault(simulator, {})[metric] = {"its": _errors(its), "ours": _errors(ours)}
    return table


def by_source(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Errors by source, engine and metric."""
    found: dict[str, dict[str, list[float]]] = {}
    for o in outcomes:
        found.setdefault(f"{o.row.source} ({o.row.engine})", {}).setdefault(o.row.metric, []).append(
            (o.predicted or np.nan) / o.row.value
        )
    return {key: {m: _errors(v) for m, v in metrics.items()} for key, metrics in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the catalogue's file and benchmarks/results")
    arguments = parser.parse_args()
    folder = evidence_folder()
    if folder is None:
        raise SystemExit("no folder with published runs: name one in WAFERLINE_SHARED")
    runs = read_runs(folder / "serving-runs.csv.gz")
    report = check_runs(runs)
    scored = [o for o in report.outcomes if o.scored]
    ends = residuals(scored)
    results: Mapping[str, Any] = {
        "runs": len(runs),
        "values": len(report.outcomes),
        "answered": sum(o.answered for o in report.outcomes),
        "scored": len(scored),
        "covered_models_left_out": round(covered(scored), 4),
        "sources": by_source(scored),
        "peers": peers(folder / "serving-peers.csv.gz", scored),
    }
    print(json.dumps({"residual": ends, **results}, indent=2))
    if arguments.write:
        write(CATALOG, "residual", ends, depth=0)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
