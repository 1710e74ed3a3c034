"""Fit how serving benchmarks load an engine (`catalog/loads.yaml`) on published TTFT of closed loads.

Run: `python -m benchmarks.fit.loads [--shared PATH] [--write]`, after `benchmarks.fit.engines`: its constants are used.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.fit.engine_family import FEWEST_ROWS
from benchmarks.fit.engine_fit import STALL, figures, quantiles, step_times
from benchmarks.fit.engine_parts import Parts, load_parts
from benchmarks.fit.engines import SERVED, impossible_sweeps, light_errors, sweep
from benchmarks.fit.record import write
from waferline.arrays import FloatArray
from waferline.evidence.folder import evidence_files
from waferline.evidence.lint import with_marks
from waferline.evidence.rows import read_rows
from waferline.fit import BoolArray, held_out, shrunk, sweep_weights
from waferline.predict.engine import get_engine
from waferline.predict.load import QueueModel, StepTimes, closed_load, full_load_tokens_per_s

_START = {"burst": 0.1, "clump": 0.2, "first_share": 1.0, "front_s": 0.05}
_SOFT, _SPREAD = 0.15, 1.5
_STEPS = 60
_MARGIN = 0.02
OUT = Path("src/waferline/catalog/loads.yaml")
_FITTED = (
    "step_s", "kernel_s", "layer_s", "expert_layer_s", "sequence_s", "prompt_layer_s", "decode_excess", "decode_scale",
    "prefill_scale", "collective_scale",
)  # fmt: skip


def pieces(p: Parts, engine: str) -> StepTimes:
    """The pieces of every row at the fitted constants of its engine on NVIDIA GPUs."""
    e = get_engine(engine)
    c = {name: getattr(e, name) for name in _FITTED}
    return step_times(p, c)


def cut(p: StepTimes, keep: npt.NDArray[np.bool_]) -> StepTimes:
    return StepTimes(*(getattr(p, f.name)[keep] for f in fields(StepTimes)))


def fit(p: StepTimes, ttft_s: FloatArray, weight: FloatArray) -> QueueModel:
    """The queue model with the least robust log error of TTFT."""
    spread = dict.fromkeys(_START, _SPREAD)

    def errors(c: dict[str, float]) -> FloatArray:
        return np.log(closed_load(p, QueueModel(stall=STALL, **c)).ttft_s / ttft_s)

    return QueueModel(stall=STALL, **shrunk(errors, _START, spread, noise=_SOFT, weights=weight, steps=_STEPS))


def engine_entry(rows: Parts, name: str) -> dict[str, Any]:
    """One engine's queue model with the errors of models left out."""
    kind = rows.labels(lambda r, q: (q.load, q.answer))
    late = rows.where(kind == str(("closed", "ttft_s")))
    p, value = pieces(late, name), late.value
    place = np.array([sweep(late, i) for i in range(len(late.rows))])
    weight = sweep_weights(place)
    found = fit(p, value, weight)
    error = np.log(closed_load(p, found).ttft_s / value)
    model = late.labels(lambda r, q: q.model)

    def left_out_errors(inside: BoolArray) -> FloatArray:
        others = fit(cut(p, ~inside), value[~inside], weight[~inside])
        return np.log(closed_load(cut(p, inside), others).ttft_s / value[inside])

    held = held_out(model, left_out_errors)
    residual = {"ttft": quantiles([held])}
    figures_of = {"rows": len(value), "ttft": _card(error), "ttft_models_left_out": _card(held)}
    between = get_engine(name).residual.get("decode")
    if between:
        residual["tpot"] = [float(q) for q in between]
    full = rows.where((rows.labels(lambda r, q: q.load) == "full") & (light_errors(rows) < _MARGIN))
    if len(full.rows) > 0:
        e = full_errors(full, name)
        figures_of["full_rows"], figures_of["full_load"] = len(full.rows), _card(e)
        if len(full.rows) >= FEWEST_ROWS:
            residual["full"] = quantiles([e])
    return {**_rounded(found), "residual": residual, "fit": figures_of}


def full_errors(full: Parts, name: str) -> FloatArray:
    """log(predicted time / measured time) of full loads: nothing of them was fitted."""
    z = full.size
    rate = full_load_tokens_per_s(pieces(full, name)) * z["dp"]
    per = {
        "output_tokens_per_s": 1.0,
        "total_tokens_per_s": (z["input_tokens"] + z["output_tokens"]) / z["output_tokens"],
    }
    per["samples_per_s"] = 1.0 / z["output_tokens"]
    predicted = np.array([(rate * per[q.answer])[i] for i, q in enumerate(full.requests)])
    return -np.log(predicted / full.value)


def _card(e: FloatArray) -> dict[str, float]:
    median, p90, bias = figures(e)
    return {"median": round(median, 3), "p90": round(p90, 3), "bias": round(bias, 3)}


def _rounded(h: QueueModel) -> dict[str, float]:
    return {f.name: round(float(getattr(h, f.name)), 4) for f in fields(QueueModel) if f.name != "residual"}


def _mean(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """QueueModel of engines in general: the middle engine of each figure, with the widest residuals."""
    middle = {k: float(np.median([e[k] for e in entries])) for k in _rounded(QueueModel(0, 0, 0, 0, 0))}
    metrics = {m for e in entries for m in e["residual"]}
    widest = {
        m: [
            pick(e["residual"][m][i] for e in entries if m in e["residual"])
            for i, pick in enumerate((min, min, max, max))
        ]
        for m in sorted(metrics)
    }
    return {**middle, "residual": widest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rows = with_marks([r for f in evidence_files(arguments.shared) if "llm-inference" in f.name for r in read_rows(f)])
    entries = all_entries(load_parts(rows))
    for name, entry in entries.items():
        print(name, entry.get("fit", entry))
    if arguments.write:
        write(OUT, "engines", entries, depth=0, digits=9)


def all_entries(parts: Parts) -> dict[str, dict[str, Any]]:
    impossible = impossible_sweeps(parts)
    fair = np.array([sweep(parts, i) not in impossible for i in range(len(parts.rows))])
    fair &= np.array([not r.source.startswith("SemiAnalysis InferenceX repo (exp") for r in parts.rows])
    engine = parts.labels(lambda r, q: q.engine)
    served = {
        name: engine_entry(parts.where(fair & (engine == name) & (parts.vendor == "nvidia gpu")), name)
        for name in SERVED
    }
    entries = {"default": _mean(list(served.values())), **served}
    for entry in served.values():
        entry["residual"] = {**entries["default"]["residual"], **entry["residual"]}
    for older in ("tensorrt-llm-v0", "vllm-v0"):
        full = parts.where(
            (engine == older) & (parts.labels(lambda r, q: q.load) == "full") & (parts.vendor == "nvidia gpu")
        )
        full = full.where(light_errors(full) < _MARGIN)
        e = full_errors(full, older)
        general = entries["default"]
        residual = {**general["residual"], "full": quantiles([e])}
        entries[older] = {**general, "residual": residual, "fit": {"full_rows": len(full.rows), "full_load": _card(e)}}
    return entries


if __name__ == "__main__":
    main()
