"""Every way to serve a model: machine × formats × degrees, priced in closed form with as many replicas as the load needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.errors import InvalidInputError, UnsupportedError, WaferlineError
from waferline.machines.device import Device
from waferline.predict.chosen_precision import choose_precision
from waferline.predict.degrees import check_degrees, group_sizes
from waferline.predict.engine import Engine, default_engine, get_engine
from waferline.predict.result import Result
from waferline.predict.scenario import Scenario
from waferline.predict.serving import ServingModel
from waferline.traffic.scheduler import scheduler_of
from waferline.traffic.slo import Goal
from waferline.workloads.spec import MixtureOfExperts, Transformer

MOST_DEVICES_A_REPLICA = 64
_RUNNING = np.unique(np.round(np.geomspace(1.0, 1024.0, 32)))  # sequences of a replica that are tried
_FULL = 0.85  # of what a replica can do is asked of it: a queue in front of a full one never ends
_LOADED = {"ttft": "loaded_ttft", "tpot": "loaded_tpot", "e2e": "loaded_request"}  # what a goal is held against
_RATE = "loaded_throughput{}_tokens_per_s"
_ATTENTION_APART = ("vllm", "sglang", "tensorrt-llm")  # engines whose ranks may attend to requests of their own


@dataclass(frozen=True, slots=True)
class Load:
    """What users send, in means: requests a second (or clients that wait for their answer), tokens of each, share of the prompts'
    tokens that a cache has seen; `longest`: tokens of the longest sequence."""

    rate_per_s: float | None
    clients: int
    prompt: int
    output: int
    longest: int
    seen: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What is planned: a model under a load with goals, and what there is to choose from; None is as it ships."""

    model: Transformer
    load: Load
    goals: Sequence[Goal] = ()
    precisions: Sequence[str | None] = (None,)
    caches: Sequence[str | None] = (None,)
    engine: str | None = None
    techniques: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One format on one machine with degrees and replicas, and what the closed form says of it.

    dp: ranks of a replica that attend to requests of their own and share its experts. running: sequences of a replica at which the
    goals hold; values: latencies in seconds by metric, with `_low90` and `_high90`. missed: goals that no load of it meets.
    usd_per_h: of all devices; NaN where no source has a price. least_usd_per_h: the same if it were as fast as its interval allows.
    """

    device: Device
    precision: str
    kv: str | None
    engine: str
    tp: int
    pp: int
    ep: int
    dp: int
    replicas: int
    running: float
    usd_per_h: float
    least_usd_per_h: float
    values: Mapping[str, float]
    missed: tuple[str, ...] = ()

    @property
    def devices(self) -> int:
        return self.tp * self.pp * self.dp * self.replicas

    @property
    def order(self) -> tuple[float, ...]:
        """Cheaper first; without prices fewer devices."""
        priced = np.isfinite(self.usd_per_h)
        return (0.0 if priced else 1.0, self.usd_per_h if priced else float(self.devices), float(self.devices))

    def with_replicas(self, replicas: int) -> Candidate:
        return replace(self, replicas=replicas, usd_per_h=self.usd_per_h / self.replicas * replicas)

    def scenario(self, asked: Asked, replicas: int) -> Scenario:
        """What is simulated of it."""
        degrees = {name: n for name in ("pp", "ep") if (n := getattr(self, name)) > 1}
        return Scenario(
            model=asked.model, machine=self.device, precision=self.precision, kv=self.kv, engine=self.engine, tp=self.tp,
            dp=self.dp * replicas, techniques=asked.techniques or None, intervals=False, **degrees,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        named = ("precision", "kv", "engine", "tp", "pp", "ep", "dp", "replicas", "devices", "usd_per_h")
        return {
            "machine": self.device.name,
            **{name: getattr(self, name) for name in named},
            "running_per_replica": self.running,
            "closed_form": self.values,
            "missed": self.missed,
        }


def candidates(
    asked: Asked, devices: Sequence[Device], done: Callable[[int], None] = lambda n: None
) -> tuple[list[Candidate], dict[str, str]]:
    """(every candidate, best first; why a machine cannot take a format)."""
    found: list[Candidate] = []
    refused: dict[str, str] = {}
    for device, precision, kv in product(devices, asked.precisions, asked.caches):
        who = ", ".join((device.name, precision or "as shipped", *((f"KV {kv}",) if kv else ())))
        try:
            here = list(_of_machine(asked, device, precision, kv))
        except (UnsupportedError, InvalidInputError) as error:
            here, refused[who] = [], str(error)
        if not here:
            refused.setdefault(who, "no group of it holds the model")
        found += here
        done(1)
    return sorted(found, key=lambda c: c.order), refused


def _of_machine(asked: Asked, device: Device, precision: str | None, kv: str | None) -> Iterator[Candidate]:
    model, load = asked.model, asked.load
    label = str(choose_precision(model, device, precision, kv)[0])
    runner = default_engine(device, model) if asked.engine is None else get_engine(asked.engine)
    if device.kind == "wafer":
        raise UnsupportedError(f"{device.name} answers from its mesh: no engine's scheduler serves requests on it")
    scheduler_of(runner.name)
    degrees = np.array(list(_degrees(model, device, runner)), dtype=float).reshape(-1, 4)  # (group, tp pp ep dp)
    if not degrees.size:
        return
    tp, pp, ep, dp = degrees.T[:, :, None]
    seen = (f"prefix-cache:hit={load.seen:.3f}",) if load.seen >= 0.01 else ()
    result = ServingModel().solve(
        model, device, load.prompt, _RUNNING * dp, label, output_len=load.output, tp=tp, pp=pp, ep=ep, dp=dp, kv=kv,
        engine=runner.name, load="closed", context=max(load.longest, load.prompt + load.output), intervals=False,
        techniques=(*asked.techniques, *seen) or None,
    )  # fmt: skip
    for i, (running, rate, most, values, missed) in _held(result, degrees.shape[0], asked):
        t, p, e, d = degrees[i].astype(int).tolist()
        each = t * p * d
        price = np.nan if device.hourly_usd is None else device.hourly_usd * each
        if load.rate_per_s is None:
            n = least = max(int(np.ceil(load.clients / (running * d))), 1)
        else:
            n, least = (max(int(np.ceil(load.rate_per_s / r)), 1) for r in (rate * _FULL, most))
        values |= {"capacity_request_per_s": rate * n}
        yield Candidate(
            device,
            precision or label,
            kv,
            runner.name,
            t,
            p,
            e,
            d,
            n,
            running,
            price * n,
            price * least,
            values,
            missed,
        )


def _degrees(model: Transformer, device: Device, runner: Engine) -> Iterator[tuple[int, int, int, int]]:
    """(tp, pp, ep, dp) of every group that the model can be cut into and that links join."""
    sizes = [(tp, pp) for tp, pp in group_sizes(model, device, runner) if tp * pp <= MOST_DEVICES_A_REPLICA]
    tps, pps = sorted({tp for tp, _ in sizes}), sorted({pp for _, pp in sizes})
    experts = any(isinstance(b.ffn, MixtureOfExperts) for b in model.blocks)
    reach = device.reach("scale-up")
    for tp, pp in product(tps, pps):
        if tp * pp > MOST_DEVICES_A_REPLICA or (
            (tp, pp) not in sizes and (runner.split == "layers" or tp * pp > reach)
        ):
            continue
        spread = [(tp, 1), (1, 1)] if tp > 1 else [(1, 1)]
        if experts and runner.name in _ATTENTION_APART and pp == 1:
            spread += [(tp * 2**i, 2**i) for i in range(1, 11) if tp * 2**i <= min(reach, MOST_DEVICES_A_REPLICA)]
        for ep, dp in spread if experts else [(1, 1)]:
            try:
                check_degrees(
                    model, device, runner, {"tp": float(tp), "pp": float(pp), "ep": float(ep), "dp": float(dp)}
                )
            except WaferlineError:
                continue
            yield tp, pp, ep, dp


def _held(
    result: Result, groups: int, asked: Asked
) -> Iterator[tuple[int, tuple[float, float, float, dict[str, float], tuple[str, ...]]]]:
    """Of each group that holds the model: (sequences of a replica, requests a second of it, the same at the end of its interval,
    latencies, goals missed).

    The most sequences at which every goal holds are as many as a replica is given; where none does, one sequence shows it.
    """
    whole = lambda name: np.broadcast_to(result[name], (groups, _RUNNING.size))  # noqa: E731
    limits = {goal: goal.limit_s for goal in asked.goals}
    times: dict[Goal, AnyArray] = {goal: whole(f"{_LOADED[goal.metric]}_s") for goal in limits}
    feasible: FloatArray = whole("feasible")
    held = feasible & np.all([times[g] <= limit for g, limit in limits.items()], axis=0)
    last = np.where(held.any(axis=1), _RUNNING.size - 1 - np.argmax(held[:, ::-1], axis=1), 0)
    columns = {
        f"{metric}{end}_s": whole(f"{field}{end}_s")
        for metric, field in _LOADED.items()
        for end in ("", "_low90", "_high90")
        if f"{field}{end}_s" in result
    } | {
        "memory_headroom_bytes": whole("usable_bytes") - whole("device_memory_bytes"),
        "prefill_share": whole("ttft_s") / (whole("ttft_s") + whole("itl_s") * asked.load.output),
    }
    rate = whole(_RATE.format("")) / max(asked.load.output, 1)
    most = whole(_RATE.format("_high90")) / max(asked.load.output, 1) if _RATE.format("_high90") in result else rate
    for i in np.flatnonzero(feasible[:, 0]):
        at = int(last[i])
        missed = tuple(g.name for g, limit in limits.items() if times[g][i, at] > limit)
        values = {name: float(column[i, at]) for name, column in columns.items()}
        yield int(i), (float(_RUNNING[at]), float(rate[i, at]), float(most[i, at]), values, missed)
