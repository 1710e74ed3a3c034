"""Every public callable of `waferline`, and of the records that they answer with, given what nobody means to give.

A case is a call that works with one argument spoilt. It may be answered or refused with an error of `waferline.errors`.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import random
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import waferline
from benchmarks.fuzz.contract import TooLong, clock
from benchmarks.fuzz.values import OBJECTS

MOST_S = 20.0
# What a parameter without a default is given in a call that works: `callable.parameter`, or the parameter alone.
SAMPLES: dict[str, Callable[[], Any]] = {
    "model": lambda: "llama-3-8b", "hardware": lambda: "h100", "machine": lambda: "h100", "machines": lambda: ["h100"],
    "name_or_path": lambda: "h100", "source": lambda: "gpt2", "fleet": lambda: waferline.Fleet("h100", 8),
    "seq_len": lambda: 512, "batch_size": lambda: 8, "global_batch": lambda: 64, "sla_latency_ms": lambda: 5000.0,
    "workload_data_rate": lambda: "1 GB/s", "storage": lambda: "10 GB/s", "duration_days": lambda: 3.0, "devices": lambda: 8,
    "compute_budget": lambda: 1e21, "arrival_rate_qps": lambda: 10.0, "service_latency_ms": lambda: 50.0,
    "job_duration_hours": lambda: 100.0, "models": lambda: [waferline.ScalingModel()], "fabric": lambda: "100 Gbit/s",
    "rate_per_s": lambda: 5.0, "field": lambda: "batch", "goals": lambda: ["itl_s<=50ms"], "objectives": lambda: "ttft_s",
    "scenario": lambda: waferline.Scenario(model="llama-3-8b", machine="h100"),
    "traffic": lambda: waferline.Traffic(requests=20, rate_per_s=5.0, prompt=64, output=8), "path": lambda: "points.parquet",
    "first": lambda: waferline.ServingModel().solve("gpt2", "l4", 128), "name": lambda: "fp8",
    "second": lambda: waferline.ServingModel().solve("gpt2", "h100", 128), "headers": lambda: ["a"], "rows": lambda: [[1]],
    "text": lambda: "a",
    "target_latency": lambda: "10 ms", "replicas": lambda: 2, "scope": lambda: "node", "fmt": lambda: "fp16", "names": dict,
    "Result.__getitem__.name": lambda: "ttft_s", "values": lambda: {"ttft_s": 1.0}, "message": lambda: "no",
    "DataModel.solve.workload_data_rate": lambda: "1 GB/s", "WaferResidentModel.solve.hardware": lambda: "wse-2",
    "WeightStreamingModel.solve.hardware": lambda: "cs3", "owners.first": lambda: np.array([True, False]),
}  # fmt: skip
# Arguments beside those that must be given, so that a call works, or that stand behind `**options`.
BESIDE: dict[str, dict[str, Any]] = {
    "CompressionModel.solve": {"target_bitwidth": 8},
    "DataModel.solve": {"storage": "10 GB/s"},
    "CheckpointModel.solve": {"hardware": "h100"},
    "grid": {"batch_size": [1, 8], "prompt": [1, 2]},
    "Device.with_": {"tdp_w": 300.0, "units": 8, "peak_flops": {"fp16": 1e12}, "memory": (), "links": (), "name": "mine"},
    "EconomicsModel.solve": {"kwh_price": 0.1},
    "PlacementOptimizer.solve": {"kwh_price": 0.1},
    "Engine.solve": {"phase": "infer", "seq_len": 128, "engine": None, "efficiency": 0.5},
    "Pipeline.run": {"compute_budget": 1e21},
    "Traffic": {"rate_per_s": 5.0},
}  # fmt: skip
_TAKES_ANY = ("show.table", "show.info", "show.banner", "Traffic.owners")  # and prints or counts it
LASTING = ("plan", "what_runs")
_UNTRIED = (
    "Callback",
    "ForwardModel",
    "Models",
    "this_machine",
    "Q_",
    "ureg",
)  # a protocol, a name space, an hour of measurement; pint's
# Values that no parameter of any callable can mean, so that an answer to them is a silent one.
NEVER = (
    *("b'1'", "b'\\xff'", "1j", "object", "module", "lambda", "endless", "lies", "NotImplemented", "Ellipsis", "slice"),
    *(
        "masked array",
        "array of complex128",
        "array of bool",
        "array of S1",
        "array of M8[s]",
        "array [nan]",
        "array [None]",
    ),
    *("pint 2 meter", "pint nan watt", "nan", "np.nan", "{1}", "array []", "datetime.date(2026, 1, 1)"),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One public callable: how it is reached, and the arguments of a call that works."""

    name: str
    make: Callable[[], Callable[..., Any]]  # the function, bound to a fresh object where it is a method
    parameters: tuple[str, ...]  # that are spoilt, one at a time
    given: dict[str, Any]
    variadic: str | None = None  # the parameter of *args


@dataclass(frozen=True, slots=True)
class Case:
    call: Call
    parameter: str
    value: str  # its name in `OBJECTS`

    def __str__(self) -> str:
        return f"{self.call.name}({self.parameter}={self.value})"


def calls() -> list[Call]:
    """Every public function, constructor and method, with arguments."""
    found: list[Call] = []
    for name in waferline.__all__:
        value = getattr(waferline, name)
        if name in _UNTRIED or not callable(value):
            continue
        if not inspect.isclass(value):
            found.append(_call(name, lambda value=value: value, value))
        elif not issubclass(value, Exception):
            found += _of_class(name, value)
    show = waferline.show
    found += [_call(f"show.{n}", lambda n=n: getattr(show, n), getattr(show, n)) for n in ("table", "info", "banner")]
    return [call for call in found if call.parameters]


def _of_class(name: str, cls: type) -> Iterator[Call]:
    constructor = _call(name, lambda: cls, cls) if cls is not waferline.Device else None
    if constructor:
        yield constructor

    def fresh() -> Any:
        if cls is waferline.Device:
            return waferline.load_hardware("h100")
        assert constructor
        return cls(**constructor.given)

    for method, function in inspect.getmembers(cls, callable):
        if (not method.startswith("_") or method == "__getitem__") and method not in ("from_json",):
            yield _call(f"{name}.{method}", lambda method=method: getattr(fresh(), method), function)


def _call(name: str, make: Callable[[], Any], function: Any) -> Call:
    given, spoilt, variadic = dict(BESIDE.get(name, {})), list(BESIDE.get(name, {})), None
    for p in inspect.signature(function).parameters.values():
        if p.name == "self" or p.kind is p.VAR_KEYWORD:
            continue
        spoilt.append(p.name)
        if p.kind is p.VAR_POSITIONAL:
            variadic = p.name
        if p.default is p.empty and p.name not in given:
            given[p.name] = _sample(name, p.name)
    return Call(name, make, tuple(dict.fromkeys(spoilt)), given, variadic)


def _sample(name: str, parameter: str) -> Any:
    key = next((k for k in (f"{name}.{parameter}", f"{name.split('.')[-1]}.{parameter}") if k in SAMPLES), parameter)
    return SAMPLES.get(key, float)()  # what nobody has said a value for is refused or not, but typed


def cases() -> list[Case]:
    """Every parameter of every call with every value."""
    return [Case(call, p, value) for call in calls() for p in call.parameters for value, _ in OBJECTS]


def sample(draw: random.Random, count: int) -> list[Case]:
    """`count` cases, each callable as often as any other, but none of `LASTING`."""
    every = [call for call in calls() if call.name not in LASTING]
    picked = [draw.choice(every) for _ in range(count)]
    return [Case(call, draw.choice(call.parameters), draw.choice(OBJECTS)[0]) for call in picked]


def breach(case: Case) -> str | None:
    """What this call breaks, or None: an error that is not typed, no end, or an answer to what means nothing."""
    value = _VALUES[case.value]()
    with contextlib.redirect_stdout(io.StringIO()):
        function = case.call.make()
        try:
            with clock(MOST_S):
                _invoke(function, case, value)
        except waferline.WaferlineError as error:
            if error.kind == "bug":
                return f"a bug: {error.message}{at_line(error.__cause__)}"
            return None if str(error).isprintable() and len(str(error)) <= 700 else "an error that is not one line"
        except TooLong:
            return "over time"
        except Exception as error:
            return f"{type(error).__name__}{at_line(error)}"
    return "believed" if case.value in NEVER and case.call.name not in _TAKES_ANY else None


def at_line(error: BaseException | None) -> str:
    """The last line of the package that an error went through."""
    frames = traceback.extract_tb(error.__traceback__) if error else []
    mine = [f for f in frames if "/waferline/" in f.filename and not f.filename.endswith("door.py")]
    return f" at {mine[-1].filename.split('/waferline/')[-1]}:{mine[-1].lineno}" if mine else ""


def _invoke(function: Callable[..., Any], case: Case, value: Any) -> None:
    arguments = {**case.call.given, case.parameter: value}
    many = [arguments.pop(case.call.variadic), "itl_s"] if case.call.variadic else []
    if many:
        first = [arguments.pop(name) for name in inspect.signature(function).parameters if name in arguments]
        answer = function(*first, *many)
    else:
        answer = function(**arguments)
    for kind, read in _READERS.items():
        if type(answer) is kind:
            read(answer)


_VALUES = dict(OBJECTS)
# A record that only holds what it was given, and who reads it.
_READERS: dict[type, Callable[[Any], Any]] = {
    waferline.Scenario: waferline.run,
    waferline.Traffic: lambda traffic: traffic.checked().sent(),
    waferline.ServerOptions: lambda options: options.checked(),
    waferline.Result: lambda result: result.explain(),
}
