"""Groups of generating rows put to the door of every face, `predict.scenario.run`: static batches, closed loads and full loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from waferline.arrays import AnyArray, FloatArray, Floats
from waferline.evidence.answer import VARIANTS, Answer, answers, single
from waferline.evidence.benchmarks import Limit
from waferline.evidence.metrics import READERS, Sizes, Times
from waferline.evidence.names import model_spec
from waferline.evidence.request import Request
from waferline.predict.engine import get_engine
from waferline.predict.load import NO_LIMIT, held_share
from waferline.predict.result import Result
from waferline.predict.run import run
from waferline.predict.scenario import Scenario

_SIZES = ("batch", "input_tokens", "output_tokens", "tp", "pp", "ep", "dp")
_KEYS = {"value": "{}_{}", "low90": "{}_low90_{}", "high90": "{}_high90_{}", "light": "light_{}_{}"}  # variant → field
_RATE = ("loaded_throughput", "tokens_per_s")

# Metric of a row under load → the field of the result it is read from, and what the figure is multiplied with.
_LOADED: Mapping[str, tuple[str, str, Callable[[Sizes], FloatArray | float]]] = {
    "ttft_s": ("loaded_ttft", "s", lambda s: 1.0),
    "tpot_s": ("loaded_tpot", "s", lambda s: 1.0),
    "latency_s": ("loaded_request", "s", lambda s: 1.0),
    "output_tokens_per_s": (*_RATE, lambda s: 1.0 / s.beams),
    "total_tokens_per_s": (*_RATE, lambda s: (s.input_tokens + s.output_tokens) / s.output_tokens / s.beams),
    "samples_per_s": (*_RATE, lambda s: 1.0 / s.output_tokens / s.beams),
}


def ask_serving(requests: Sequence[Request]) -> list[Answer]:
    """Answers for requests of one group.

    Raises: any WaferlineError of the model, for the whole group.
    """
    n = sizes_of(requests)
    result = solve(requests[0], {name: single(column) for name, column in n.items()})
    s = Sizes(n["batch"], n["input_tokens"], n["output_tokens"], requests[0].beams)
    asked = {r.answer for r in requests}
    waves = in_waves(requests, result, n)
    fitting = result if waves is n else solve(requests[0], waves)
    held = replace(s, batch=waves["batch"])
    values = {}
    for variant in VARIANTS:
        asked_of = (result, s) if variant == "light" else (fitting, held)  # no bound is taken from a smaller batch
        read = _read(requests[0], *asked_of, variant, asked)
        values[variant] = np.array([read[r.answer][i] for i, r in enumerate(requests)])
    return answers(values, _tiers(requests, result), _notes(requests, result, s))


def best_of(request: Request, points: Mapping[str, FloatArray], limit: Limit | None) -> int | None:
    """Which of `points` (sizes in place of the request's own) fits and answers it best, among those that meet `limit`.

    Where none does, that with the shortest step; None where none fits. Raises: as `ask_serving`.
    """
    like = points["tp"]
    n = {name: points.get(name, np.full(like.shape, getattr(request, name))) for name in _SIZES}
    result = solve(request, n)
    s = Sizes(n["batch"], n["input_tokens"], n["output_tokens"], request.beams)
    value = _read(request, result, s, "value", {request.answer})[request.answer]
    merit = value if request.answer.endswith("_per_s") else -value
    fits = _full(result["feasible"], like) > 0
    if limit is not None:
        token_s = _full(result["loaded_tpot_s"], like)
        meets = (token_s <= limit.tpot_s) & (token_s * s.output_tokens <= limit.request_s)
        merit = np.where(meets, merit, -token_s)
    return int(np.argmax(np.where(fits, merit, -np.inf))) if fits.any() else None


def in_waves(requests: Sequence[Request], result: Result, sizes: Mapping[str, FloatArray]) -> Mapping[str, FloatArray]:
    """`sizes` of static batches, those that memory does not hold cut to the sequences that run at once where a rate is asked.

    An engine that keeps sequences in pages takes the others as places become free, so its rate is that of a batch that fits.
    """
    first, engine = requests[0], get_engine(requests[0].engine)
    if first.load != "static" or not engine.pages:
        return sizes
    most = np.floor(_full(result["max_batch_size"], sizes["batch"]) / first.beams)
    held = np.floor(most * held_share(sizes["input_tokens"], sizes["output_tokens"], engine.output_reserve))
    waits = (most >= 1.0) & (held < sizes["batch"]) & np.array([r.answer.endswith("tokens_per_s") for r in requests])
    return dict(sizes) | {"batch": np.where(waits, held, sizes["batch"])} if waits.any() else sizes


def sizes_of(requests: Sequence[Request]) -> dict[str, FloatArray]:
    return {name: np.array([getattr(r, name) for r in requests], dtype=np.float64) for name in _SIZES}


def solve(first: Request, sizes: Mapping[str, Floats]) -> Result:
    """The serving model for rows that differ in sizes alone. Under full load a row's batch is the most that run at once.

    Beams of a search share the prompt's cache. Under load they are taken for as many tokens in a row, which need as much memory
    and as many steps of a sequence; in a batch for sequences side by side whose prompts are read once.
    """
    full, load = first.load == "full", first.load != "static"
    scenario = Scenario(
        model=model_spec(first.model),
        machine=first.machine,
        precision=first.precision,
        kv=first.kv,
        prompt=np.ceil(sizes["input_tokens"]),
        output=np.ceil(sizes["output_tokens"]) * (first.beams if load else 1.0),
        batch=1.0 if full else np.ceil(sizes["batch"]) * (1.0 if load else first.beams),
        tp=sizes["tp"],
        pp=sizes["pp"],
        ep=sizes["ep"],
        dp=sizes["dp"],
        engine=first.engine,
        load=first.load,
        concurrency=(np.minimum(sizes["batch"], NO_LIMIT) if full else NO_LIMIT) if load else None,
        strategy="tensor-parallel",  # published rows state tensor parallelism on wafers, too
    )
    return run(scenario).result


def _full(value: AnyArray, like: FloatArray) -> FloatArray:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), like.shape)


def _read(first: Request, result: Result, s: Sizes, variant: str, asked: set[str]) -> dict[str, FloatArray]:
    return (_static if first.load == "static" else _loaded)(result, s, variant, asked)


def _static(result: Result, s: Sizes, variant: str, asked: set[str]) -> dict[str, FloatArray]:
    """The metrics of a batch, from its two times."""
    ttft_s, itl_s = (_full(result[_KEYS[variant].format(name, "s")], s.batch) for name in ("ttft", "itl"))
    return {name: READERS[name](Times(ttft_s / s.beams, itl_s), s) for name in asked}


def _loaded(result: Result, s: Sizes, variant: str, asked: set[str]) -> dict[str, FloatArray]:
    """The metrics of a load, as the model answers them."""
    out = {}
    for name in asked:
        field, unit, factor = _LOADED[name]
        key = _KEYS[variant].format(field, unit)
        out[name] = _full(result[key], s.batch) * factor(s)
    return out


def _tiers(requests: Sequence[Request], result: Result) -> list[str]:
    prefill_only = ("ttft_s", "prompt_tokens_per_s")
    shape = (len(requests),)
    tiers = {phase: np.broadcast_to(result[f"{phase}_tier"], shape) for phase in ("prefill", "decode")}
    return [str(tiers["prefill" if r.answer in prefill_only else "decode"][i]) for i, r in enumerate(requests)]


def _notes(requests: Sequence[Request], result: Result, s: Sizes) -> list[tuple[str, ...]]:
    if requests[0].load == "static":
        fits = _full(result["feasible"], s.batch) > 0
        return [() if ok else ("does not fit at once by the memory model",) for ok in fits]
    running = _full(result["running_sequences"], s.batch)
    if requests[0].load == "full":
        return [(f"{r:.0f} sequences run at once",) for r in running]
    return [
        (f"memory and scheduler hold {r:.0f} of {c:.0f} sequences",) if r < np.floor(c) else ()
        for r, c in zip(running, s.batch, strict=True)
    ]
