"""Groups of generating rows put to `ServingModel`: static batches, closed loads and full loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.evidence.answer import VARIANTS, Answer, answers, tier_of
from waferline.evidence.metrics import READERS, Sizes, Times
from waferline.evidence.names import model_spec
from waferline.evidence.request import Request
from waferline.predict.engine import get_engine
from waferline.predict.load import (
    Pieces,
    closed_load,
    full_load_tokens_per_s,
    habits,
    held_share,
    prompts_together,
    running_sequences,
)
from waferline.predict.result import Result
from waferline.predict.serving import ServingModel

_BEYOND_MEMORY = 8.0  # times the batch that memory is thought to hold: the bound must not depend on that thought
_KEYS = {"value": "{}_s", "low90": "{}_low90_s", "high90": "{}_high90_s", "light": "light_{}_s"}


def ask_serving(requests: Sequence[Request]) -> list[Answer]:
    """Answers for requests of one group.

    Raises: any WaferlineError of the model, for the whole group.
    """
    first = requests[0]
    sizes = _sizes(requests)
    if first.load == "static":
        return _static(requests, sizes)
    return _served(requests, sizes)


def _sizes(requests: Sequence[Request]) -> dict[str, FloatArray]:
    names = ("batch", "input_tokens", "output_tokens", "tp", "pp", "ep", "dp")
    return {name: np.array([getattr(r, name) for r in requests], dtype=np.float64) for name in names}


def solve(first: Request, sizes: Mapping[str, FloatArray], batch: FloatArray) -> Result:
    """The serving model at `batch`, everything else as the group says."""
    return ServingModel().solve(
        model=model_spec(first.model),
        hardware=first.hardware,
        seq_len=np.ceil(sizes["input_tokens"]),
        batch_size=batch,
        precision=first.precision,
        output_len=np.ceil(sizes["output_tokens"]),
        kv=first.kv,
        tp=sizes["tp"],
        pp=sizes["pp"],
        ep=sizes["ep"],
        dp=sizes["dp"],
        engine=first.engine,
    )


def _full(value: npt.NDArray, like: FloatArray) -> FloatArray:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), like.shape)


def _times(result: Result, variant: str, like: FloatArray) -> Times:
    key = _KEYS[variant]
    return Times(_full(result[key.format("ttft")], like), _full(result[key.format("itl")], like))


def _pick(requests: Sequence[Request], read: Mapping[str, FloatArray]) -> FloatArray:
    """Each row's own metric out of all that were read."""
    return np.array([read[r.answer][i] for i, r in enumerate(requests)])


def _tiers(requests: Sequence[Request], result: Result) -> list[str]:
    by_phase = {phase: tier_of(result.operators, phase) for phase in ("prefill", "decode")}
    prefill_only = ("ttft_s", "prompt_tokens_per_s")
    return [by_phase["prefill" if r.answer in prefill_only else "decode"] for r in requests]


def _static(requests: Sequence[Request], sizes: dict[str, FloatArray]) -> list[Answer]:
    result = solve(requests[0], sizes, sizes["batch"])
    asked = {r.answer for r in requests}
    s = Sizes(sizes["batch"], sizes["input_tokens"], sizes["output_tokens"])
    values = {}
    for variant in VARIANTS:
        t = _times(result, variant, s.batch)
        values[variant] = _pick(requests, {name: READERS[name](t, s) for name in asked})
    fits = _full(result["feasible"], s.batch) > 0
    notes = [() if ok else ("does not fit at once by the memory model",) for ok in fits]
    return answers(values, _tiers(requests, result), notes)


def _served(requests: Sequence[Request], sizes: dict[str, FloatArray]) -> list[Answer]:
    """Closed and full load, from one prompt alone and the running batch."""
    first, dp = requests[0], sizes["dp"]
    parts = served_parts(requests)
    values = {}
    for variant in VARIANTS:
        values[variant] = _pick(requests, _read_load(parts.load[variant], first, sizes, variant))
    running = parts.load["value"].running * dp
    if first.load == "full":
        values["light"] = _full_light(requests, sizes, running)
    _bounded(values, requests)
    notes = _notes(sizes["batch"], parts.most, first.load, running)
    return answers(values, _tiers(requests, parts.busy), notes)


@dataclass(frozen=True, slots=True)
class ServedParts:
    """What the model says of one prompt alone and of a running batch: the pieces that a load is put together from."""

    load: Mapping[str, Pieces]  # by variant: expected, both ends of the interval, and the bound
    most: FloatArray  # sequences that memory holds, all replicas
    busy: Result


def served_parts(requests: Sequence[Request]) -> ServedParts:
    """The pieces for requests of one group under load.

    Raises: any WaferlineError of the model, for the whole group.
    """
    first, sizes = requests[0], _sizes(requests)
    dp = sizes["dp"]
    alone = solve(first, sizes, dp)  # one prompt on every replica
    inputs, outputs = sizes["input_tokens"], sizes["output_tokens"]
    held = held_share(inputs, outputs, get_engine(first.engine).output_reserve)
    most = np.maximum(_full(alone["max_batch_size"], dp) * held, dp)
    clients = np.minimum(sizes["batch"], 1e9)
    running = running_sequences(clients, most, dp)
    together = prompts_together(inputs, running, dp)
    prompts = solve(first, sizes, together * dp)
    busy = solve(first, sizes, running)
    load = {}
    for variant in VARIANTS:
        one, many, step = (_times(r, variant, dp) for r in (alone, prompts, busy))
        load[variant] = Pieces(
            prefill_s=one.ttft_s,
            prompt_s=many.ttft_s / together,
            step_s=step.itl_s,
            clients=np.maximum(clients / dp, 1.0),
            running=running / dp,
            output_tokens=outputs,
            together=together,
        )
    return ServedParts(load=load, most=most, busy=busy)


def _read_load(load: Pieces, first: Request, sizes: Mapping[str, FloatArray], variant: str) -> dict[str, FloatArray]:
    """All metrics under load. The bound of latencies is one request alone; of rates, perfect overlap of both phases."""
    t = closed_load(load, habits(first.engine))
    ttft_s, itl_s, request_s = t.ttft_s, t.itl_s, t.request_s
    if variant == "light":
        ttft_s, itl_s = load.prefill_s, load.step_s
        request_s = ttft_s + np.maximum(load.output_tokens - 1, 0) * itl_s
    dp, outputs, inputs = sizes["dp"], sizes["output_tokens"], sizes["input_tokens"]
    rate = full_load_tokens_per_s(load) * dp
    if first.load == "closed":
        rate = load.clients * dp * outputs / request_s
    if variant == "light":
        rate = dp / np.maximum(load.step_s / load.running, load.prompt_s / outputs)
    return {
        "ttft_s": ttft_s,
        "tpot_s": itl_s,
        "latency_s": request_s,
        "output_tokens_per_s": rate,
        "total_tokens_per_s": rate * (inputs + outputs) / outputs,
        "samples_per_s": rate / outputs,
    }


def _bounded(values: dict[str, FloatArray], requests: Sequence[Request]) -> None:
    """Intervals of metrics under load from their own residuals, where the fit has them; never beyond the bound."""
    residual = habits(requests[0].engine).residual
    for i, r in enumerate(requests):
        kind = "ttft" if r.answer == "ttft_s" else ("full" if r.load == "full" else "tpot")
        if kind not in residual:
            continue
        low, high = residual[kind][0], residual[kind][-1]
        rate = r.answer.endswith("per_s")
        light = values["light"][i]
        for key, q in (("low90", -high if rate else low), ("high90", -low if rate else high)):
            value = values["value"][i] * np.exp(q)
            values[key][i] = min(value, light) if rate else max(value, light)


def _full_light(requests: Sequence[Request], sizes: Mapping[str, FloatArray], running: FloatArray) -> FloatArray:
    """The bound of a full load, whose batch is not stated: that of a batch far above what memory is thought to hold."""
    dp = sizes["dp"]
    most = solve(requests[0], sizes, running * _BEYOND_MEMORY)
    t = _times(most, "light", dp)
    rate = running * _BEYOND_MEMORY / np.maximum(t.itl_s, t.ttft_s / sizes["output_tokens"])
    per_output = {
        "output_tokens_per_s": rate,
        "total_tokens_per_s": rate * (sizes["input_tokens"] + sizes["output_tokens"]) / sizes["output_tokens"],
        "samples_per_s": rate / sizes["output_tokens"],
    }
    return _pick(requests, per_output)


def _notes(clients: FloatArray, most: FloatArray, kind: str, running: FloatArray) -> list[tuple[str, ...]]:
    said: list[tuple[str, ...]] = []
    for c, m, r in zip(clients, most, running, strict=True):
        if kind == "full":
            said.append((f"{r:.0f} sequences run at once",))
        else:
            said.append((f"memory holds {m:.0f} of {c:.0f} sequences",) if m < c else ())
    return said
