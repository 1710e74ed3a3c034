"""Published runs of served models: each is simulated, and every latency and rate that it states is scored.

A run is a row of a CSV with the arrival process and latency statistics in columns of their own; its entries become rows of the
one report, with the metric's column as the metric.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from waferline.arrays import AnyArray
from waferline.catalog.table_file import records_of
from waferline.catalog.yaml_file import read_packaged
from waferline.errors import DoesNotFitError, FileFormatError, WaferlineError
from waferline.evidence.drafting import technique_of
from waferline.evidence.machines import machine as published
from waferline.evidence.names import engine_name, hardware_name, model_spec, precision_of
from waferline.evidence.outcome import Outcome
from waferline.evidence.published_load import traffic_of
from waferline.evidence.report import Report
from waferline.evidence.request import Refusal
from waferline.evidence.rows import Row
from waferline.evidence.run import Run
from waferline.evidence.together import together
from waferline.predict.compare import nearest_precision
from waferline.predict.engine import get_engine
from waferline.predict.overlapped import overlaps
from waferline.predict.scenario import Scenario
from waferline.predict.versions import is_version
from waferline.simulate.serving.traffic import Traffic
from waferline.traffic.options import ServerOptions
from waferline.traffic.scheduler import older_front_s, scheduler_of
from waferline.traffic.serve import simulate_serving
from waferline.traffic.serving_run import PERCENTILES

METRICS = (
    *(f"{name}_{kind}_s" for name in ("ttft", "tpot", "itl", "e2e") for kind in ("mean", "p50", "p90", "p95", "p99")),
    "request_per_s", "output_tokens_per_s", "total_tokens_per_s",
)  # fmt: skip
MARKS = ("arrival", "ttft_mean_s", "model", "hardware")  # columns that tell such a file from rows of single values
_BUNDLED_S = 1e-3  # a median gap below: the client received tokens in bundles
_TELLING = 5  # figures that two measurements do not share by chance
_NO_LIMIT = 1e9  # sequences that an engine takes by default: memory ends first
_ATTENTION_APART = "attention is data-parallel, experts are spread over all devices"


def read_runs(path: str | Path) -> list[Run]:
    """The runs of a `.csv` or `.csv.gz`; what stands under two machines to the last digit is doubted. Raises: FileFormatError."""
    runs = [Run(cells) for _, cells in records_of(Path(path))]
    machines: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        machines.setdefault(_figures(run), set()).add(run.cells.get("hardware") or "")
    twice = "the same figures stand under another machine"
    doubted = (len(machines[_figures(r)]) > 1 and any(_figures(r)) and not r.cells.get("suspect") for r in runs)
    return [Run({**r.cells, "suspect": twice}) if doubt else r for r, doubt in zip(runs, doubted, strict=True)]


def _figures(run: Run) -> tuple[str, ...]:
    """The latencies that it states, where these are enough to tell one measurement from another."""
    found = tuple(run.cells.get(name) or "" for name in METRICS)
    return found if sum(map(bool, found)) >= _TELLING else ()


def check_runs(runs: Sequence[Run], progress: Callable[[int], None] | None = None) -> Report:
    """Simulate every run; each metric that it states becomes an outcome, predicted or refused."""
    outcomes: list[Outcome] = []
    rows_of = [list(_rows(run)) for run in runs]
    answers = together(lambda pair: _found(pair[0]) if pair[1] else None, zip(runs, rows_of, strict=True))
    for rows, found in zip(rows_of, answers, strict=True):
        for row in rows:
            if isinstance(found, Refusal) or found is None:
                refusal = found or Refusal("metric", "the run states no latency or rate")
                outcomes.append(Outcome(row=row, refused=refusal.reason, refused_kind=refusal.kind))
                continue
            values, assumed = found
            outcomes.append(_outcome(row, values, assumed))
        if progress is not None:
            progress(1)
    return Report(tuple(outcomes))


def _found(run: Run) -> tuple[Mapping[str, Any], tuple[str, ...]] | Refusal:
    """What the simulator says of a run, and what was assumed; or why it says nothing."""
    try:
        asked = asked_of(run)
        return asked if isinstance(asked, Refusal) else simulated(asked)
    except FileFormatError as error:
        return Refusal("cell", str(error))
    except WaferlineError as error:
        return Refusal("engine", str(error))


def _rows(run: Run) -> Iterator[Row]:
    """A row for every metric that the run states."""
    uneven = "the host was shared: gaps vary though hardly a step reads a prompt" if run.uneven else ""
    for metric in METRICS:
        value = run.number(metric)
        bundled = metric.startswith("itl_p") and value is not None and value < _BUNDLED_S
        bundled |= metric.split("_")[0] in run.bundled
        if value is not None and value > 0.0:
            doubt = run.cells.get("suspect") or ("tokens came in bundles" if bundled else uneven)
            yield _row(run, metric, value, doubt)


_NAMES = (
    "id", "hardware", "model", "source", "url", "engine", "engine_version", "weight_format", "activation_format", "kv_format",
    "missing",
)  # fmt: skip


def _row(run: Run, metric: str = "", value: float = 1.0, suspect: str = "") -> Row:
    """The run as a row of one figure, or of none: what names are resolved from."""
    said: dict[str, Any] = {name: run.cells.get(name) or "" for name in _NAMES}
    complete = not said["missing"]
    devices = run.number("devices")
    return Row(**said, phase="serve", metric=metric, value=value, devices=devices, complete=complete, suspect=suspect)


def _outcome(row: Row, values: Mapping[str, Any], assumed: tuple[str, ...]) -> Outcome:
    value = values.get(row.metric)
    if value is None:
        return Outcome(row=row, refused="requests of one token have no such latency", refused_kind="metric")
    low, high = interval(row.metric, value)
    return Outcome(row=row, predicted=value, low90=low, high90=high, tier="simulated", assumed=assumed)


def interval(metric: str, value: float) -> tuple[float, float]:
    """The 90 % interval of a simulated figure."""
    low, high = (value * np.exp(q) for q in _residual(metric))
    return float(low), float(high)


def residual_class(metric: str) -> str:
    """The class of metrics whose errors are alike: ttft, tpot, itl and e2e, tails of them apart, and rates."""
    if metric.endswith("_per_s"):
        return "rate"
    name, kind = metric.split("_")[:2]
    return f"{name}_tail" if kind in ("p90", "p95", "p99") else name


@cache
def _residual(metric: str) -> tuple[float, float]:
    """5 % and 95 % quantiles of log(measured / simulated) of published runs, of this class of metric."""
    low, high = read_packaged("serving_fits.yaml")["residual"][residual_class(metric)]
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Asked:
    """A run as what `simulate_serving` takes, and what was assumed of it."""

    scenario: Scenario
    traffic: Traffic
    options: ServerOptions
    assumed: tuple[str, ...]
    steady: bool = False
    first_token_counts: bool = False


def asked_of(run: Run) -> Asked | Refusal:
    """The question that a run answers."""
    cells = run.cells
    row = _row(run)
    spec = model_spec(row.model)
    if isinstance(spec, Refusal):
        return spec
    machine = hardware_name(row.hardware)
    if isinstance(machine, Refusal):
        return machine
    engine, why = engine_name(row, machine[0])
    formats = precision_of(row, engine)
    if isinstance(formats, Refusal):
        return formats
    device = published(machine[0])
    precision, narrower = nearest_precision(device, formats[0])
    traffic = traffic_of(run)
    if isinstance(traffic, Refusal):
        return traffic
    technique = technique_of(run)
    if isinstance(technique, Refusal):
        return technique
    load, told = traffic
    prefill, dp = _instances(run)
    tp, pp, dp, ep, spread = _degrees(run, prefill, dp)
    told = (*told, spread, technique[1])
    asked = Scenario(
        model=spec,
        machine=device,
        precision=precision,
        kv=formats[1] if row.kv_format else None,
        memory_share=run.number("gpu_memory_utilization"),
        tp=tp,
        pp=pp if pp > 1 else None,
        dp=dp if dp > 1 else None,
        ep=ep if ep > 1 else None,
        engine=engine,
        techniques=technique[0],
        intervals=False,
    )
    # SGLang shares these two limits between the ranks.
    each = dp if spread == _ATTENTION_APART and engine == "sglang" else 1
    limits: dict[str, Any] = {name: run.count(name) for name in ("max_num_seqs", "max_num_batched_tokens")}
    if each > 1:  # also those that it chooses itself
        runner = get_engine(engine)
        most = scheduler_of(engine).most_sequences(runner, device, technique[0])
        for name, usual in (("max_num_seqs", most), ("max_num_batched_tokens", runner.limits(device).chunk_tokens)):
            limits[name] = limits[name] or (int(usual) if usual < _NO_LIMIT else None)
    shared: dict[str, Any] = {name: value and max(value // each, 1) for name, value in limits.items()}
    if run.steady and dp > 1 and shared["max_num_seqs"]:  # of all replicas, as the sequences that ran show
        shared["max_num_seqs"] = max(shared["max_num_seqs"] // dp, 1)
    version = cells.get("engine_version") or ""
    front = older_front_s(engine, version, row.model)
    ahead = _scheduled_ahead(run, engine, technique[0])
    known = version if is_version(version) and overlaps(engine, version) is not None else None
    pools: dict[str, Any] = {f"prefill_{name}": run.count(f"prefill_{name}") for name in ("tp", "ep")}
    pools |= {"prefill_replicas": prefill, "engine_version": known}
    served = ServerOptions(**shared, **pools, async_scheduling=ahead, front=front)
    assumed = tuple(text for text in (machine[1], why, formats[2], narrower, *told) if text)
    return Asked(asked, load, served, assumed, run.steady, run.first_token_counts)


def simulated(asked: Asked) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """What the simulator says of a run, and what was assumed. Raises: WaferlineError."""
    assumed = asked.assumed
    try:
        outcome = simulate_serving(asked.scenario, asked.traffic, asked.options)
    except DoesNotFitError:  # a table's "bf16" of a model that ships in fp8 says what it was trained in
        if getattr(asked.scenario.model, "weight_format", None) is None:
            raise
        assumed += (f"weights as shipped: in {asked.scenario.precision} they do not fit",)
        outcome = simulate_serving(replace(asked.scenario, precision=None), asked.traffic, asked.options)
    values = dict(outcome.values)
    if asked.steady:  # what such runs count is the time while every place is taken
        values |= {m: values[f"full_{m}"] for m in METRICS if values.get(f"full_{m}") is not None}
    if asked.first_token_counts:
        values |= _by_guidellm(outcome.per_request)
    return values, assumed


def _by_guidellm(requests: Mapping[str, AnyArray]) -> dict[str, float]:
    """TPOT and ITL as GuideLLM calls them: the whole time over all tokens, and what everybody else calls TPOT."""
    tokens, whole = requests["output_tokens"], requests["e2e_s"]
    many = tokens > 1
    found: dict[str, float] = {}
    for name, each, weight in (("tpot", whole / tokens, tokens), ("itl", requests["tpot_s"][many], tokens[many] - 1)):
        if each.size:
            found |= {f"{name}_p{p}_s": float(np.percentile(each, p)) for p in PERCENTILES}
            found[f"{name}_mean_s"] = float(np.average(each, weights=weight))
    return found


def _scheduled_ahead(run: Run, engine: str, drafts: str | None) -> bool | None:
    """Whether a run scheduled steps ahead: by its option, else as its version does, which with drafts the scheduler knows."""
    if "async-scheduling=True" in (run.cells.get("options") or ""):
        return True
    ahead = overlaps(engine, run.cells.get("engine_version") or "")
    return None if ahead and drafts else ahead


_POOLS = re.compile(r"(\d+) prefill \+ (\d+) decode")
_ALIKE = re.compile(r"(\d+) identical instances")


def _instances(run: Run) -> tuple[int, int | None]:
    """Instances that only read prompts, and those that generate; None where the run names none."""
    text = run.cells.get("disaggregated") or ""
    if pools := _POOLS.search(text):
        return int(pools[1]), int(pools[2])
    alike = _ALIKE.search(text)
    return 0, int(alike[1]) if alike else None


def _degrees(run: Run, prefill: int, instances: int | None) -> tuple[int, int, int, int, str]:
    """(tp, pp, dp, ep, what was made of them). tp and dp that are more than the devices share them: attention of every rank on its
    own requests, experts over all (SGLang's and vLLM's data-parallel attention)."""
    tp, pp, dp = (run.count(name) or 1 for name in ("tp", "pp", "dp"))
    dp = instances or dp
    devices = (run.count("devices") or 1) * dp // (prefill + dp)  # of those that generate
    stated = run.cells.get("ep") or ""
    if dp > 1 and tp * dp > devices:
        return max(devices // dp, 1), pp, dp, devices, _ATTENTION_APART
    told = ""
    if tp * pp * dp < devices and devices % (pp * dp) == 0:
        tp, told = devices // (pp * dp), f"tp {devices // (pp * dp)}: what {devices} devices leave"
    return tp, pp, dp, tp * dp if stated == "tp*dp" else run.count("ep") or 1, told
