"""Is the probability honest that `plan` states? `python -m benchmarks.plan_chance [--write]`.

Every published open run is simulated; for goals from half to twice of what simulation says, the stated probability (from the errors
of runs of OTHER models) stands beside the share of goals that the measured latency held. Writes the errors' quantiles to the
catalogue, and the table to `benchmarks/results`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from waferline.encode import dumps
from waferline.evidence.folder import evidence_folder
from waferline.evidence.outcome import Outcome
from waferline.evidence.run import Run
from waferline.evidence.serving_runs import check_runs, read_runs
from waferline.traffic.planning.chance import below, kind_of

CATALOG = Path("src/waferline/catalog/plan_fits.yaml")
RESULT = Path(__file__).parent / "results" / "plan_chance.json"
LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]
ROOMS = np.geomspace(0.5, 2.0, 15)  # goals, over what simulation says
_LEAST = 20  # rows of a class, for quantiles of its own

Errors = Mapping[str, Sequence[tuple[float, str]]]  # class → (log(measured / simulated), model)


def open_load(run: Run) -> bool:
    """Whether requests came at a rate of their own."""
    return bool(run.cells.get("rate_per_s")) and (run.cells.get("arrival") or "").startswith(
        ("request rate", "poisson")
    )


def errors_by_engine(outcomes: Sequence[Outcome], runs: Sequence[Run]) -> dict[str, Errors]:
    """Those of open runs where an engine has enough of them, else of all its runs; `default`: of all engines."""
    opened = {run.cells["id"] for run in runs if open_load(run)}
    steady = {run.cells["id"] for run in runs if run.steady}
    found: dict[tuple[str, bool], dict[str, list[tuple[float, str]]]] = defaultdict(lambda: defaultdict(list))
    for o in outcomes:
        name, _, kind = o.row.metric.removesuffix("_s").partition("_")
        if not o.scored or name not in ("ttft", "tpot", "e2e") or o.row.id in steady:
            continue
        share = float(kind[1:]) if kind.startswith("p") else 50.0
        error = float(np.log(o.row.value / (o.predicted or np.nan)))
        for engine in (o.row.engine, "default"):
            found[engine, o.row.id in opened][kind_of(name, share)].append((error, o.row.model))
    engines = dict.fromkeys(engine for engine, _ in found)
    return {
        engine: {
            kind: some
            for kind in dict.fromkeys((*found[engine, True], *found[engine, False]))
            if len(some := max((found[engine, way][kind] for way in (True, False)), key=lambda e: len(e) >= _LEAST))
            >= _LEAST
        }
        for engine in engines
    }


def honesty(errors: Errors) -> list[dict[str, float]]:
    """By tenths of the stated probability: its mean, the share that held, and how many goals."""
    stated, held = [], []
    for rows in errors.values():
        for model in {m for _, m in rows}:
            others = np.quantile([e for e, m in rows if m != model] or [0.0], LEVELS).tolist()
            for error in (e for e, m in rows if m == model):
                stated += [below(float(np.log(room)), others, LEVELS) for room in ROOMS]
                held += [bool(error <= np.log(room)) for room in ROOMS]
    tenth = np.minimum((np.array(stated) * 10).astype(int), 9)
    return [
        {
            "stated": float(np.mean(np.array(stated)[mine])),
            "held": float(np.mean(np.array(held)[mine])),
            "goals": int(mine.sum()),
        }
        for t in range(10)
        if (mine := tenth == t).any()
    ]


def together(outcomes: Sequence[Outcome], runs: Sequence[Run], errors: Errors) -> dict[str, float]:
    """Goals for mean TTFT and mean TPOT at once that are stated at 90 % or more: the mean of what is stated, the share that held,
    and how the errors of the two are correlated."""
    opened, found = (
        {run.cells["id"] for run in runs if open_load(run)},
        defaultdict[str, dict[str, tuple[float, str]]](dict),
    )
    for o in outcomes:
        if (
            o.scored
            and o.row.id in opened
            and o.row.engine == "vllm"
            and o.row.metric in ("ttft_mean_s", "tpot_mean_s")
        ):
            error = float(np.log(o.row.value / (o.predicted or np.nan)))
            found[o.row.id][o.row.metric.split("_")[0]] = (error, o.row.model)
    both = [(d["ttft"], d["tpot"]) for d in found.values() if len(d) == 2]
    stated, held = [], []
    for first, second in both:
        chances = []
        for kind in ("ttft", "tpot"):
            others = np.quantile([e for e, m in errors[kind] if m != first[1]], LEVELS).tolist()
            chances.append(np.array([below(float(np.log(room)), others, LEVELS) for room in ROOMS]))
        stated.append(np.outer(*chances))
        held.append(np.outer(first[0] <= np.log(ROOMS), second[0] <= np.log(ROOMS)))
    sure = np.array(stated) >= 0.9
    pairs = np.array([(a[0], b[0]) for a, b in both])
    return {
        "stated": float(np.array(stated)[sure].mean()),
        "held": float(np.array(held)[sure].mean()),
        "goals": int(sure.sum()),
        "correlation": float(np.corrcoef(pairs.T)[0, 1]),
    }


def main() -> None:
    folder = evidence_folder()
    if folder is None:
        raise SystemExit("no folder with published runs: name one in WAFERLINE_SHARED")
    runs = read_runs(folder / "serving-runs.csv.gz")
    outcomes = check_runs(runs).outcomes
    by_engine = errors_by_engine(outcomes, runs)
    two = together(outcomes, runs, by_engine["vllm"])
    found = {"engine": "vllm", "probability": honesty(by_engine["vllm"]), "two_goals": two}
    print(dumps({"open_runs": sum(map(open_load, runs)), **found}))
    if "--write" in sys.argv:
        RESULT.write_text(dumps(found) + "\n", encoding="utf-8")
        lines = CATALOG.read_text(encoding="utf-8").split("engines:\n")[0] + "engines:\n"
        for engine, errors in sorted(by_engine.items()):
            quantiles = {
                kind: np.quantile([e for e, _ in rows], LEVELS).round(3).tolist()
                for kind, rows in sorted(errors.items())
            }
            lines += f"  {engine}: {{{', '.join(f'{k}: {q}' for k, q in quantiles.items())}}}\n" if quantiles else ""
        CATALOG.write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
