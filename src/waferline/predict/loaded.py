"""What a load makes of a serving case: TTFT, TPOT and throughput with waiting, prefills in between and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import unknown
from waferline.predict.engine import Engine
from waferline.predict.labels import Values
from waferline.predict.load import (
    LOADS,
    Habits,
    Loaded,
    Pieces,
    burst_load,
    closed_load,
    full_load_tokens_per_s,
    habits,
    held_share,
    prompts_together,
    running_sequences,
)
from waferline.predict.phase import Phase
from waferline.workloads.scenario import Parallel

Arguments = Mapping[str, FloatArray]

_FORMS: Mapping[str, Callable[[Pieces, Habits], Loaded]] = {
    "closed": closed_load,
    "burst": burst_load,
    "full": closed_load,
}
_BOUNDS = (("low90", 0), ("low50", 1), ("high50", 2), ("high90", 3))


class Case(Protocol):
    """What is asked of a serving case."""

    @property
    def engine(self) -> Engine: ...

    def phases(self, label: str, a: Arguments) -> tuple[Phase, Phase, Parallel]: ...

    def pipeline_fill(self, a: Arguments, parallel: Parallel) -> FloatArray: ...


def check_load(load: str) -> str:
    """Raises: UnknownNameError for another load than `LOADS`."""
    if load not in LOADS:
        raise unknown("load", load, LOADS)
    return load


def loaded_values(case: Case, label: str, a: Arguments, max_batch: FloatArray, load: str) -> Values:
    """Fields `loaded_*` for `batch_size` clients (closed), requests (burst) or a queue that never empties (full)."""
    dp, inputs, outputs = a["dp"], a["seq_len"], np.maximum(a["output_len"], 1.0)
    held = held_share(inputs, outputs, case.engine.output_reserve)
    clients = a["batch_size"] if load != "full" else np.full_like(a["batch_size"], np.inf)
    running = running_sequences(clients, np.maximum(max_batch * held, dp), dp)
    together = prompts_together(inputs, running, dp)
    alone_s, _, light_s, _ = _passes(case, label, a, dp)
    many_s, _, light_many_s, _ = _passes(case, label, a, together * dp)
    _, step_s, _, light_step_s = _passes(case, label, a, running)
    in_system = np.where(np.isinf(clients), running, clients)
    pieces = Pieces(alone_s, many_s / together, step_s, in_system / dp, running / dp, outputs, together)
    habit = habits(case.engine.name)
    t = _FORMS[load](pieces, habit)
    rate = full_load_tokens_per_s(pieces) * dp if load == "full" else in_system * outputs / t.request_s
    light_rate = dp / np.maximum(light_step_s * dp / running, light_many_s / together / outputs)
    out: Values = {
        "running_sequences": running,
        "loaded_ttft_s": np.maximum(t.ttft_s, light_s),
        "loaded_tpot_s": np.maximum(t.itl_s, light_step_s),
        "loaded_throughput_tokens_per_s": np.minimum(rate, light_rate),
        "light_loaded_throughput_tokens_per_s": light_rate,
    }
    _bound(out, habit, light_s, light_step_s, load)
    return out


def _bound(out: Values, habit: Habits, light_s: FloatArray, light_step_s: FloatArray, load: str) -> None:
    """Intervals from the residuals of published loads, never beyond the bound."""
    for name, kind, light in (("loaded_ttft", "ttft", light_s), ("loaded_tpot", "tpot", light_step_s)):
        for key, i in _BOUNDS if kind in habit.residual else ():
            out[f"{name}_{key}_s"] = np.maximum(out[f"{name}_s"] * np.exp(habit.residual[kind][i]), light)
    kind = "full" if load == "full" else "tpot"
    for key, i in _BOUNDS if kind in habit.residual else ():
        value = out["loaded_throughput_tokens_per_s"] * np.exp(-habit.residual[kind][3 - i])
        bounded = np.minimum(value, out["light_loaded_throughput_tokens_per_s"])
        out[f"loaded_throughput_{key}_tokens_per_s"] = bounded


def _passes(
    case: Case, label: str, a: Arguments, batch: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(prefill, step, bound of each) in seconds at `batch` sequences over all replicas."""
    at = {**a, "batch_size": batch}
    prefill, decode, parallel = case.phases(label, at)
    fill = case.pipeline_fill(at, parallel)
    return prefill.time_s * fill, decode.time_s, prefill.light_s * fill, decode.light_s
