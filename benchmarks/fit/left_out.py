"""One card of serving engines with whole groups left out: `python -m benchmarks.fit.left_out [ENGINE ...] [--shared PATH]`.

Every row is predicted by constants fitted without any row of its machine, its model or its lab (who published it), and its
90 % interval comes from errors of other groups left out. Where nothing of an engine is left, what other engines have in common
stands in.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.fit.engine_family import FEWEST_ROWS
from benchmarks.fit.engine_fit import POOLED, PRIOR, campaign, fit, is_prefill, log_errors, quantiles
from benchmarks.fit.engine_parts import Parts, load_parts
from benchmarks.fit.engines import SERVED, rows_of, usable
from waferline.arrays import FloatArray
from waferline.evidence.request import Request
from waferline.evidence.rows import Row
from waferline.fit import Errors, left_out, sweep_weights

RESULTS = Path(__file__).parents[1] / "results" / "left_out.json"
GENERATIONS = (*SERVED, "vllm-v0", "tensorrt-llm-v0")
SPLITS: dict[str, Callable[[Row, Request], object]] = {
    "machine": lambda r, q: q.hardware,
    "model": lambda r, q: q.model,
    "lab": lambda r, q: lab(r),
}


def lab(row: Row) -> str:
    """Who published a row: the source without the build in brackets."""
    return row.source.split(" (")[0]


def kind(row: Row, request: Request, experts: bool) -> str:
    """The class of a row in the card."""
    if request.load == "closed":
        metric = "TPOT" if request.answer == "tpot_s" else "rate"
        return f"served {metric}, {'experts' if experts else 'dense'}"
    return "static prefill" if request.answer in ("ttft_s", "prompt_tokens_per_s") else "static"


def held_errors(p: Parts, of: Callable[[Row, Request], object]) -> FloatArray:
    """Log errors of every row under constants that saw nothing of its group of `of`, engine by engine and kind by kind."""
    label, engine = p.labels(of), p.labels(lambda r, q: q.engine)
    served = np.isin(engine, SERVED) & (p.vendor == "nvidia gpu")
    family = np.char.add(np.char.add(engine, " on "), p.vendor)
    neutral = {name: start for name, (start, _) in PRIOR.items()}
    errors = np.full(len(label), np.nan)
    pooled: dict[str, dict[str, float]] = {}
    for name in np.unique(label):
        inside = label == name
        rest = served & ~inside
        if rest.sum() >= FEWEST_ROWS:
            pooled[name] = fit(p.where(rest), POOLED)
        for one in np.unique(family[inside]):
            mine, others = inside & (family == one), ~inside & (family == one)
            start = pooled.get(name) if (mine & served).any() else None
            seen = fit(p.where(others), str(engine[mine][0]), start) if others.sum() >= FEWEST_ROWS else None
            errors[mine] = log_errors(p.where(mine), seen or start or neutral)
    return errors


def covered(p: Parts, errors: FloatArray, of: Callable[[Row, Request], object]) -> npt.NDArray[np.bool_]:
    """Whether each row lies in the 90 % interval that the left-out errors of the other groups of `of` give.

    As in the catalogue: by engine, kind of machine and pass, a sweep counting once; without the stretch for unseen machines.
    """
    hit = np.zeros(len(errors), dtype=bool)
    groups, weights = p.labels(of), sweep_weights(p.labels(campaign)) ** 2
    family = np.char.add(np.char.add(p.labels(lambda r, q: q.engine), p.vendor), is_prefill(p).astype(str))
    for one in np.unique(family):
        rows = np.flatnonzero(family == one)
        for inside in left_out(groups[rows].tolist()):
            low, _, _, high = quantiles([errors[rows][~inside]], weights=weights[rows][~inside])
            hit[rows[inside]] = (-errors[rows][inside] >= low) & (-errors[rows][inside] <= high)
    return hit


def card(p: Parts) -> dict[str, dict[str, Any]]:
    """By class of row: how many, and by split the median and 90th percentile of the error and the coverage of intervals."""
    classes = np.array([kind(r, q, bool(x)) for r, q, x in zip(p.rows, p.requests, p.experts, strict=True)])
    found = {name: held_errors(p, of) for name, of in SPLITS.items()}
    hits = {name: covered(p, e, SPLITS[name]) for name, e in found.items()}
    out: dict[str, dict[str, Any]] = {}
    for one in [*np.unique(classes), "all"]:
        rows = np.ones(len(classes), dtype=bool) if one == "all" else classes == one
        out[str(one)] = {"rows": int(rows.sum())}
        for name, errors in found.items():
            e = Errors.of(errors[rows])
            cover = float(hits[name][rows].mean())
            out[str(one)][name] = {"median": round(e.median, 4), "p90": round(e.p90, 4), "cover": round(cover, 4)}
    return out


def lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The card as text."""
    out = [f"{'class':24s} {'rows':>5s}" + "".join(f" | {name + ' left out':>26s}" for name in SPLITS)]
    for one, row in found.items():
        cells = (
            f" | {100 * e['median']:5.1f} % p90 {100 * e['p90']:4.0f} in {100 * e['cover']:3.0f} %"
            for e in (row[n] for n in SPLITS)
        )
        out.append(f"{one:24s} {row['rows']:5d}" + "".join(cells))
    return out


def rows_on_gpus(shared: str | None, engines: Sequence[str] = GENERATIONS) -> Parts:
    parts = load_parts([r for r in rows_of(shared) if not r.id.startswith("edge-")])
    keep, _ = usable(parts)
    keep &= np.isin(parts.labels(lambda r, q: q.engine), engines) & np.char.endswith(parts.vendor, " gpu")
    return parts.where(keep)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", nargs="*", default=GENERATIONS)
    parser.add_argument("--shared")
    parser.add_argument("--write", action="store_true", help=f"keep it in {RESULTS.name}, from which README is written")
    arguments = parser.parse_args()
    found = card(rows_on_gpus(arguments.shared, arguments.engines))
    print("\n".join(lines(found)))
    if arguments.write:
        day = datetime.date.today().isoformat()
        RESULTS.write_text(json.dumps({"date": day, "classes": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
