"""Published rows of generating models as the sums that an engine's constants act on: nothing here depends on the constants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.errors import WaferlineError
from waferline.evidence import ask_serving as door
from waferline.evidence.names import model_spec
from waferline.evidence.request import Request
from waferline.evidence.rows import Row
from waferline.evidence.scenario import request_of
from waferline.predict.engine import Engine, family_of, get_engine, issued_in
from waferline.predict.load import held_share, prompts_together
from waferline.predict.phase import Phase
from waferline.predict.serving_case import ServingCase

_MATRIX = ("gemm", "moe")


@dataclass(frozen=True)
class Sums:
    """One pass of every row, without host. Seconds of all operators but collectives (`other_s`: neither matrix products).

    light_s: the bound of those; floor_s: the same with experts drawn as they are. matrix_flops, matrix_bytes over units and
    clocks of the device: what kernel ceilings divide. issued: what an eager host issues. spread_s: what attention adds where
    query heads share nothing, a pass as wide as they are (`Engine.spread_s`). memory_s: what memory alone takes. emulates: 1 where
    units have no bfloat16. scores_s: what attention's scores take in memory (`Engine.scores_s`).
    """

    matrix_s: FloatArray
    other_s: FloatArray
    light_s: FloatArray
    floor_s: FloatArray
    collective_s: FloatArray
    unit_flops: FloatArray
    unit_bytes: FloatArray
    kernels: FloatArray
    issued: FloatArray
    spread_s: FloatArray
    memory_s: FloatArray
    scores_s: FloatArray
    expert_layers: FloatArray
    sequences: FloatArray
    fill: FloatArray
    layers: FloatArray
    emulates: FloatArray


@dataclass(frozen=True)
class Parts:
    """Rows with the sums of their passes: `one` prompt alone, `pre` a full prefill batch, `dec` a decode step."""

    rows: list[Row]
    requests: list[Request]
    answer: npt.NDArray[np.str_]  # the metric
    static: npt.NDArray[np.bool_]  # batches that start together
    waves: npt.NDArray[np.bool_]  # clients whose requests come all at once, again and again
    prompts_first: npt.NDArray[np.bool_]  # of the engine's scheduler
    vendor: npt.NDArray[np.str_]  # "vendor kind", as in engines.yaml
    experts: npt.NDArray[np.bool_]
    tier: npt.NDArray[np.str_]  # how well the operators of its longest pass are known
    one: Sums
    pre: Sums
    dec: Sums
    together: FloatArray
    running: FloatArray
    most: FloatArray
    size: Mapping[str, FloatArray]
    value: FloatArray

    def where(self, keep: npt.NDArray[np.bool_]) -> Parts:
        index = np.flatnonzero(keep)
        cut: Callable[[Sums], Sums] = lambda s: Sums(*(getattr(s, f.name)[index] for f in fields(Sums)))  # noqa: E731
        return Parts(
            [self.rows[i] for i in index],
            [self.requests[i] for i in index],
            self.answer[index],
            self.static[index],
            self.waves[index],
            self.prompts_first[index],
            self.vendor[index],
            self.experts[index],
            self.tier[index],
            cut(self.one),
            cut(self.pre),
            cut(self.dec),
            self.together[index],
            self.running[index],
            self.most[index],
            {k: v[index] for k, v in self.size.items()},
            self.value[index],
        )

    def labels(self, of: Callable[[Row, Request], object]) -> npt.NDArray[np.str_]:
        return np.array([str(of(r, q)) for r, q in zip(self.rows, self.requests, strict=True)])


def bare(engine: Engine) -> Engine:
    """The engine without host and with kernels as measured alone."""
    neutral = {"step_s": 0.0, "layer_s": 0.0, "kernel_s": 0.0, "expert_layer_s": 0.0, "sequence_s": 0.0}
    ones = dict.fromkeys(("decode_excess", "decode_scale", "prefill_scale", "collective_scale"), 1.0)
    neutral |= {"issue_s": 0.0, "score_bytes": 0.0, "spread_passes": 0.0, "emulation": 1.0}
    ceilings = dict.fromkeys(("unit_flops", "unit_bytes"), float("inf"))
    return replace(engine, machines="", vendors={}, residual={}, **neutral, **ones, **ceilings)


def load_parts(rows: Sequence[Row]) -> Parts:
    """All rows that can be predicted, were measured and are not marked by their collector."""
    members: dict[tuple[object, ...], list[tuple[Row, Request]]] = defaultdict(list)
    for row in rows:
        request = request_of(row)
        if isinstance(request, Request) and request.door == "serving" and not (row.suspect or request.guesses):
            layout = (request.tp, request.pp, request.ep, request.dp)
            members[(*request.group, *layout)].append((row, request))
    groups = [_group([r for r, _ in m], [q for _, q in m]) for m in members.values()]
    return _joined([g for g in groups if g is not None])


def _group(rows: list[Row], requests: list[Request]) -> Parts | None:
    first, sizes = requests[0], door.sizes_of(requests)
    device = first.machine
    try:
        if first.load == "static" and get_engine(first.engine).pages:
            sizes = door.in_waves(requests, door.solve(first, sizes), sizes)
        engine = bare(get_engine(first.engine))
        if device.kind != "cpu":  # so that it counts as at home, and a tier is that of its operators
            engine = replace(engine, machines=family_of(device))
        case = ServingCase(model_spec(first.model), device, engine, first.kv)
        running, together, most = _batches(requests, sizes)
        dp = sizes["dp"]
        one, prompts = _sums(case, first, sizes, sizes["batch"] if first.load == "static" else dp, decode=False)
        pre, _ = _sums(case, first, sizes, together * dp, decode=False)
        dec, steps = _sums(case, first, sizes, running, decode=True)
    except WaferlineError:
        return None
    n = len(rows)
    return Parts(
        rows,
        requests,
        np.array([q.answer for q in requests]),
        np.array([q.load == "static" for q in requests]),
        np.array([q.load == "burst" for q in requests]),
        np.array([engine.prompts_first] * n),
        np.array([family_of(device)] * n),
        np.array([any(t > 0 for t in (dec.expert_layers[0],))] * n),
        np.where(np.isin([q.answer for q in requests], ("ttft_s", "prompt_tokens_per_s")), prompts, steps),
        one,
        pre,
        dec,
        together,
        running,
        most,
        sizes,
        np.array([r.value for r in rows]),
    )


def _batches(requests: Sequence[Request], sizes: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(sequences that decode, prompts read together by a replica, sequences that memory holds)."""
    dp = sizes["dp"]
    if requests[0].load == "static":
        return sizes["batch"], sizes["batch"] / dp, np.full_like(dp, np.nan)
    result = door.solve(requests[0], sizes)
    engine = get_engine(requests[0].engine)
    running = np.broadcast_to(result["running_sequences"], dp.shape)
    held = held_share(sizes["input_tokens"], sizes["output_tokens"], engine.output_reserve)
    limits = engine.limits(requests[0].machine, offline=requests[0].load == "full")
    together = prompts_together(sizes["input_tokens"], running, dp, limits.chunk_tokens)
    return running, together, result["max_batch_size"] * held


def _sums(
    case: ServingCase, first: Request, sizes: Mapping[str, FloatArray], batch: FloatArray, *, decode: bool
) -> tuple[Sums, npt.NDArray[np.str_]]:
    """The sums of a pass, and how well its operators are known."""
    a = {
        "batch_size": np.maximum(batch, 1.0),
        "seq_len": np.ceil(sizes["input_tokens"]),
        "output_len": np.ceil(sizes["output_tokens"]),
        **{k: sizes[k] for k in ("tp", "pp", "ep", "dp")},
    }
    run = case.decode if decode else case.prefill
    phase: Phase = run(first.precision, a, a["batch_size"], keep=True)
    clocks = case.device.units * case.device.clock_hz
    one_pass, keeps = replace(case.engine, spread_passes=1.0), get_engine(first.engine)
    shape = batch.shape
    zero = np.zeros(shape)
    total = {
        name: zero.copy()
        for name in (
            "matrix",
            "other",
            "light",
            "floor",
            "collective",
            "flops",
            "bytes",
            "kernels",
            "issued",
            "spread",
            "memory",
            "scores",
            "experts",
        )
    }
    for t in phase.timed:
        op, kind = t.operator, t.operator.kind
        seconds = op.count * t.expected_s
        total["kernels"] += op.count * (t.expected_s > 0)
        total["issued"] += op.count * issued_in(op, t.expected_s)
        total["experts"] += op.count * (kind == "moe")
        if kind == "collective":
            total["collective"] += seconds
            continue
        if decode:
            total["spread"] += op.count * one_pass.spread_s(op, case.device)
        total["light"] += op.count * t.light_s
        total["floor"] += op.count * t.floor_s
        total["scores"] += op.count * keeps.scores_s(op, case.device)
        total["memory"] += op.count * op.bytes / case.device.bandwidth_bytes_per_s
        total["matrix" if kind in _MATRIX else "other"] += seconds
        if kind in _MATRIX:
            total["flops"] += op.count * op.flops / clocks
            total["bytes"] += op.count * op.bytes / clocks
    fill = np.ones(shape) if decode else np.broadcast_to(case.pipeline_fill(a, a["batch_size"]), shape)
    sequences = np.ceil(a["batch_size"] / (a["dp"] * a["pp"])) if decode else zero
    layers = np.full(shape, float(sum(b.count for b in case.model.blocks)))
    emulates = np.full(shape, float("bf16" not in case.device.peak_flops))
    sums = Sums(
        *total.values(), sequences=np.broadcast_to(sequences, shape), fill=fill, layers=layers, emulates=emulates
    )
    return sums, np.broadcast_to(phase.tier, shape)


def _joined(groups: Sequence[Parts]) -> Parts:
    def sums(name: str) -> Sums:
        return Sums(*(np.concatenate([getattr(getattr(g, name), f.name) for g in groups]) for f in fields(Sums)))

    def column(name: str) -> npt.NDArray:
        return np.concatenate([getattr(g, name) for g in groups])

    return Parts(
        [r for g in groups for r in g.rows],
        [q for g in groups for q in g.requests],
        column("answer"),
        column("static"),
        column("waves"),
        column("prompts_first"),
        column("vendor"),
        column("experts"),
        column("tier"),
        sums("one"),
        sums("pre"),
        sums("dec"),
        column("together"),
        column("running"),
        column("most"),
        {k: np.concatenate([g.size[k] for g in groups]) for k in groups[0].size},
        column("value"),
    )
