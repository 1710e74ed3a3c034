"""Groups of devices that a row does not state: those that the product's own model finds fastest for what was measured.

Who publishes a benchmark has tuned it. Groups are tried inside the domain that links join (tp × pp, a power of two each), experts
spread over them or not, and replicas of them take the other devices; under a limit of latency as many sequences run at once as it
allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import WaferlineError
from waferline.evidence.ask_serving import best_of
from waferline.evidence.ask_training import best_of as shortest
from waferline.evidence.benchmarks import Limit
from waferline.evidence.names import model_spec
from waferline.evidence.request import Refusal, Request
from waferline.predict.degrees import group_sizes
from waferline.predict.engine import get_engine
from waferline.workloads.spec import MixtureOfExperts, Transformer

Degrees = tuple[float, float, float, float]  # tp, pp, ep, dp
_ALONE: Degrees = (1.0, 1.0, 1.0, 1.0)
_AT_ONCE = tuple(float(round(2.0 ** (i / 2.0))) for i in range(2, 29))  # sequences of a replica, half an octave apart


def degrees_of(model: Transformer, request: Request, devices: int) -> Iterator[Degrees]:
    """(tp, pp, ep, dp) that share `devices` equally; experts whole on every rank, or spread over all ranks of a replica."""
    experts = {b.ffn.experts for b in model.blocks if isinstance(b.ffn, MixtureOfExperts)}
    for tp, pp in _cuts(model, request, devices):
        dp = devices // (tp * pp)
        spread = {1} | ({tp, tp * dp} if experts and all(n % (tp * dp) == 0 for n in experts) else set())
        for ep in sorted(spread):
            if pp == 1 or ep == 1:
                yield float(tp), float(pp), float(ep), float(dp)


def _cuts(model: Transformer, request: Request, devices: int) -> Iterator[tuple[int, int]]:
    """(tp, pp) of one replica inside the domain that links join, of which `devices` are a multiple; what an engine does that
    splits layers is known."""
    device = request.machine
    engine = get_engine("static" if request.door == "training" else request.engine)
    if engine.split == "layers":
        yield 1, devices
        return
    far = request.door == "training" and device.link("scale-out") is not None  # stages of training lie in several nodes
    most = devices if far else min(device.reach("scale-up"), devices)
    for tp in sorted({tp for tp, _ in group_sizes(model, device, engine, {"pp": 1})}):
        for pp in (2**i for i in range(most.bit_length())):
            if tp * pp <= most and devices % (tp * pp) == 0 and pp <= sum(b.count for b in model.blocks):
                yield tp, pp


def fastest(request: Request, devices: int, given: Degrees | None, limit: Limit | None) -> Request | Refusal:
    """`request` in the groups (`given`, or those that answer it best) and at the concurrency that `limit` allows."""
    return _fastest(replace(request, assumed=()), devices, given, limit)


@cache
def _fastest(request: Request, devices: int, given: Degrees | None, limit: Limit | None) -> Request | Refusal:
    model = model_spec(request.model)
    assert isinstance(model, Transformer)
    options = [given] if given else list(degrees_of(model, request, devices)) or [_ALONE]
    at_once = _AT_ONCE if limit else (float("inf"),)
    points = [(*group, min(n * group[3], request.batch)) for group in options for n in at_once]
    columns = _columns(("tp", "pp", "ep", "dp", "batch"), points)
    try:
        chosen = best_of(request, columns, limit)
    except WaferlineError as error:
        return Refusal(error.kind, str(error))
    if chosen is None:
        return Refusal("memory", f"{request.model} does not fit {devices} of {request.hardware} in any group")
    return request.with_sizes({name: float(column[chosen]) for name, column in columns.items()})


def _columns(names: Sequence[str], points: Sequence[Sequence[float]]) -> dict[str, FloatArray]:
    return dict(zip(names, np.array(points, dtype=np.float64).T, strict=True))


def fastest_step(request: Request, devices: int) -> Request | Refusal:
    """A training `request` in the groups of `devices` (tp, pp, dp, micro-batch) whose step is shortest.

    Where there are more replicas than sequences, devices share a sequence (context parallelism).
    """
    model = model_spec(request.model)
    assert isinstance(model, Transformer)
    points = []
    for tp, pp in _cuts(model, request, devices):
        shared = max(-(-devices // int(tp * pp * request.batch)), 1)
        dp = devices // (tp * pp * shared)
        own = request.batch / dp
        if tp * pp * shared * dp == devices and own.is_integer() and own >= 1:
            micro = {1.0, 2.0, 4.0} if pp > 1 or own <= 4 else {1.0, 4.0, own}
            points += [(tp, pp, dp, shared, m) for m in sorted(micro) if m <= own]
    if not points:
        return Refusal("parallelism", f"{devices:g} devices cannot share a batch of {request.batch:g} equally")
    columns = _columns(("tp", "pp", "dp", "context_parallel", "micro_batch"), points)
    try:
        chosen = shortest(replace(request, assumed=()), columns)
    except WaferlineError as error:
        return Refusal(error.kind, str(error))
    if chosen is None:
        return Refusal("memory", f"a step of {request.model} does not fit {devices} of {request.hardware} in any group")
    return request.with_sizes({name: float(column[chosen]) for name, column in columns.items()})


def said(request: Request) -> str:
    """The groups that were found, in words."""
    degrees = [("tp", request.tp), ("pp", request.pp), ("ep", request.ep), ("dp", request.dp)]
    degrees.append(("cp", request.context_parallel))
    cut = " × ".join(f"{name} {value:g}" for name, value in degrees if value > 1) or "one device"
    return f"how devices share the model is not stated: {cut}, the fastest by this model"
