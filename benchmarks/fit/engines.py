"""Fit what engines add to their operators and write `catalog/engine_fits.yaml`; `docs/calibration.md` says how.

Rows: published static batches and the TPOT and throughput of closed loads. Left for the load model: TTFT under load, and
full loads, whose batch is not stated. Never fitted: rows that their collector marks, rows faster than light, and sweeps that
are so as a whole (prompts that were read from a cache).

Run: `python -m benchmarks.fit.engines [--shared PATH] [--only ENGINE ...] [--write]`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from benchmarks.fit import engine_report
from benchmarks.fit.engine_family import FEWEST_ROWS, Family
from benchmarks.fit.engine_fit import (
    ON_EDGE_TABLES,
    POOLED,
    PRIOR,
    Held,
    constants_of,
    fit,
    kin,
    lab,
    leave_out,
    log_errors,
    predict,
    run_by,
)
from benchmarks.fit.engine_parts import Parts, load_parts
from benchmarks.fit.record import write
from waferline.arrays import FloatArray
from waferline.evidence.folder import evidence_files
from waferline.evidence.lint import with_marks
from waferline.evidence.request import Request
from waferline.evidence.rows import Row, read_rows
from waferline.predict.engine import get_engine

SERVED = ("vllm", "sglang", "tensorrt-llm")  # engines of one kind, whose constants shrink towards each other's
_LEFT_OUT_OF_FITS = ("SemiAnalysis InferenceX repo (experimental",)  # token positions, not requests
_ROUNDING = 0.98
_NO_ONE_ENGINE = ("static", "none")  # what stands for many: kept as the facts say
_HIGHEST_USE = (
    0.9  # share of the bound that prompts may take of all time: the best measured GEMMs reach 0.97, whole layers less
)
OUT = Path("src/waferline/catalog/engine_fits.yaml")


def light_errors(p: Parts) -> FloatArray:
    """log(bound / measured time) of every row: above zero the published value is faster than light."""
    zero = dict.fromkeys(PRIOR, 0.0) | {"decode_scale": 1.0, "prefill_scale": 1.0}
    only = lambda s: replace(s, matrix_s=s.light_s, other_s=np.zeros_like(s.light_s), floor_s=s.light_s)  # noqa: E731
    bound = replace(p, one=only(p.one), pre=only(p.pre), dec=only(p.dec))
    sign = np.where(np.char.endswith(p.answer, "per_s"), -1.0, 1.0)
    return sign * np.log(predict(bound, zero, stall=0.0) / p.value)


def impossible_sweeps(p: Parts) -> set[str]:
    """Sweeps with a closed load whose prompts alone would take nearly all the time at the speed of light."""
    by_place: dict[str, dict[str, int]] = {}
    for i, (row, request) in enumerate(zip(p.rows, p.requests, strict=True)):
        if request.load == "closed" and row.metric in ("ttft_s", "tpot_s"):
            by_place.setdefault(row.source + row.locator, {})[row.metric] = i
    found = set()
    for pair in by_place.values():
        if len(pair) < 2:
            continue
        i, j = pair["tpot_s"], pair["ttft_s"]
        outputs, clients = p.size["output_tokens"][i], p.size["batch"][i] / p.size["dp"][i]
        requests_per_s = clients / (p.value[j] + (outputs - 1) * p.value[i])
        if requests_per_s * p.pre.light_s[i] / p.together[i] > _HIGHEST_USE:
            found.add(sweep(p, i))
    return found


def sweep(p: Parts, i: int) -> str:
    row = p.rows[i]
    return " · ".join((row.source, row.hardware, row.model, row.weight_format, row.engine, row.engine_version))


def usable(p: Parts) -> tuple[npt.NDArray[np.bool_], set[str]]:
    """(rows to fit on, sweeps that were left out as impossible)."""
    impossible = impossible_sweeps(p)
    kinds = p.labels(lambda r, q: q.load)
    late = p.labels(lambda r, q: q.answer in ("ttft_s", "latency_s")) == "True"
    fast = light_errors(p) > -np.log(_ROUNDING)
    keep = (kinds != "full") & ~(np.isin(kinds, ("closed", "burst")) & late) & ~fast
    keep &= np.array([not r.source.startswith(_LEFT_OUT_OF_FITS) for r in p.rows])
    keep &= np.array(
        [not any(" taken as " in said for said in q.assumed if said.startswith("engine '")) for q in p.requests]
    )
    keep &= np.array([sweep(p, i) not in impossible for i in range(len(p.rows))])
    return keep, impossible


SPLITS: Mapping[str, Callable[[Row, Request], object]] = {
    "model": lambda r, q: q.model,
    "machine": lambda r, q: q.hardware,
    "lab": lambda r, q: lab(r),
}


def families(p: Parts, others: Parts | None = None) -> list[Family]:
    """One family for every engine and kind of machine with enough rows, largest first.

    others: rows among which those are sought of the engine that an engine of `p` runs, or of the generation before, on the same
    kind of machine: a family on other machines than the served pool's shrinks to their constants.
    """
    engine = p.labels(lambda r, q: constants_of(q.engine))
    served = np.isin(engine, SERVED) & (p.vendor == "nvidia gpu")
    pool = p.where(served)
    pooled = fit(pool, POOLED) if served.any() else None
    out = []
    for name, vendor in sorted({(str(e), str(v)) for e, v in zip(engine, p.vendor, strict=True)}):
        mine = (engine == name) & (p.vendor == vendor)
        if mine.sum() < FEWEST_ROWS or name in _NO_ONE_ENGINE:
            continue
        rows, related = p.where(mine), bool((mine & served).any())
        shared, start = (pool, pooled) if related else (None, None) if others is None else near(others, name, vendor)
        constants = fit(rows, name, start)
        held = [
            Held(split, len(np.unique(rows.labels(of))), leave_out(rows, name, of, shared))
            for split, of in SPLITS.items()
        ]
        if related:
            rest = fit(p.where(served & (engine != name)), POOLED)
            held.append(Held("engine", len(SERVED), log_errors(rows, rest)))
        out.append(Family(name, vendor, rows, constants, log_errors(rows, constants), tuple(held)))
    return sorted(out, key=lambda f: -len(f.parts.rows))


def near(p: Parts, engine: str, vendor: str) -> tuple[Parts | None, dict[str, float] | None]:
    """Rows and constants of the engine that this one runs, else of the generation before it, where there are enough on the same
    kind of machine."""
    runs = run_by(engine)
    if runs is None:
        older = kin(p, engine, vendor)
        return (None, None) if older is None else (older, fit(older, POOLED))
    rows = p.where((p.labels(lambda r, q: constants_of(q.engine)) == runs) & (p.vendor == vendor))
    return (rows, fit(rows, runs)) if len(rows.rows) >= FEWEST_ROWS else (None, None)


def document(found: Sequence[Family]) -> dict[str, Any]:
    """The file: for every engine the constants of its largest family, the others under `vendors`."""
    engines: dict[str, dict[str, Any]] = {}
    for family in found:
        if not family.helps:
            continue
        if family.engine not in engines:
            engines[family.engine] = family.entry() | {"fit": family.entry()["fit"] | {"machines": family.vendor}}
        else:
            entry = family.entry()
            engines[family.engine].setdefault("vendors", {})[family.vendor] = entry
    return engines


# Runs that nothing is fitted on: what the fit of MLX is held against (tests/predict/test_mlx.py).
KEPT_APART = {("apple-m3-ultra-60c", model) for model in ("llama-3.1-8b", "qwen3-0.6b", "gemma-3-1b")}
KEPT_APART |= {(f"apple-m2-max-{cores}c", "qwen3.6-35b-a3b") for cores in (30, 38)}
_FILES = ("llm-inference", "edge-inference")
_OF_EDGE = ("mlx",)  # engines of the edge table that are fitted; its llama.cpp rows are CPUs and phones by the thread


def rows_of(shared: str | None) -> list[Row]:
    """The rows to fit on: published runs of the tables at hand, without those kept apart; contradicted ones are marked."""
    found = with_marks([r for f in evidence_files(shared) if f.name.startswith(_FILES) for r in read_rows(f)])
    return [r for r in found if (r.hardware, r.model) not in KEPT_APART or not r.id.startswith("edge-")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared")
    parser.add_argument("--only", nargs="+", help="fit these engines alone and leave the others' records as they are")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    parts = load_parts(rows_of(arguments.shared))
    keep, impossible = usable(parts)
    print(f"{(~keep).sum()} of {len(keep)} rows are not fitted; impossible sweeps: {sorted(impossible)}")
    engine = parts.labels(lambda r, q: constants_of(q.engine))
    edge = np.array([r.id.startswith("edge-") for r in parts.rows])
    complete = np.array([r.complete for r in parts.rows])  # real prompts of unstated length measure the server, too
    keep &= ~edge | (np.isin(engine, _OF_EDGE) & complete)
    # One that runs another has its own constants from `edge`.
    keep &= [get_engine(str(e)).runs == e and e not in ON_EDGE_TABLES for e in engine]
    if arguments.only:
        keep &= np.isin(engine, arguments.only)
    found = families(parts.where(keep))
    for family in found:
        print(engine_report.line(family))
    if arguments.write and arguments.only:
        engines = yaml.safe_load(OUT.read_text(encoding="utf-8"))["engines"] | document(found)
        write(OUT, "engines", engines, depth=3, digits=9)
    elif arguments.write:
        write(OUT, "engines", document(found), depth=3, digits=9)


if __name__ == "__main__":
    main()
