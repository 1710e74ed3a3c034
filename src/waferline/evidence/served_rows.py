"""Rows of single values as figures of a serving run: of requests at a rate of their own, and of pools that read and generate."""

from __future__ import annotations

import re

from waferline.evidence import notes
from waferline.evidence.published_load import AS_NOTED, workloads
from waferline.evidence.request import SIMULATED, Refusal, Request
from waferline.evidence.rows import Row
from waferline.evidence.run import Run
from waferline.evidence.serving_runs import asked_of

_REQUESTS = re.compile(r"(?:for (\d+) requests|(\d+) (?:random )?prompts)")
_DATASET = re.compile(r"\bdataset (\w+)")
_MEDIAN = re.compile(r"\bp90 [\d.]+ p99 [\d.]+")  # percentiles beside it: the value is the median
# Options of a server in the notes, as the columns of a serving run call them.
_OPTIONS = {
    "max_num_seqs": re.compile(r'"max_num_seqs": (\d+)'),
    "gpu_memory_utilization": re.compile(r'"gpu_memory_utilization": ([\d.]+)'),
}
_SAME = (
    "hardware", "devices", "model", "weight_format", "activation_format", "kv_format", "tp", "pp", "dp", "ep", "engine",
    "engine_version", "source",
)  # fmt: skip
# Workers of either pool where a row does not say: the median of those that do, by engine.
_WORKERS, _ONE_EACH = {"TensorRT": (1, 3)}, (1, 1)
_OTHER_WORKERS = 3.0  # times as many, or as few: rows that say have one to six where the usual number is taken
_FIGURES = {"ttft_s": "ttft_{}_s", "tpot_s": "tpot_{}_s", "latency_s": "e2e_{}_s"}
_RATES = {"samples_per_s": "request_per_s"}


def is_served(row: Row) -> bool:
    """Whether the simulator answers a row, and no closed form does."""
    return notes.disaggregated(row) or (row.batch is None and notes.rate_per_s(row) is not None)


def served_request(row: Row, hardware: str) -> Request | Refusal:
    """The run that a row is a figure of, and which one."""
    cells = {name: _text(getattr(row, name)) for name in _SAME}
    cells |= {name: found[1] for name, pattern in _OPTIONS.items() if (found := pattern.search(row.notes))}
    told: list[str] = []
    for part in (_machines, _load, _lengths):
        refusal = part(row, cells, told)
        if refusal is not None:
            return refusal
    asked = asked_of(Run(cells))
    if isinstance(asked, Refusal):
        return asked
    figure = _FIGURES.get(row.metric, _RATES.get(row.metric, row.metric))
    return Request(
        door=SIMULATED,
        model=row.model,
        hardware=hardware,
        precision=str(asked.scenario.precision),
        engine=str(asked.scenario.engine),
        answer=figure.format("p50" if _MEDIAN.search(row.notes) else "mean"),
        run=tuple(cells.items()),
        either_way=1.0 if _workers_stated(row) else _OTHER_WORKERS,
        assumed=(*told, *asked.assumed),
    )


def _machines(row: Row, cells: dict[str, str], told: list[str]) -> Refusal | None:
    """Pools as a serving run states them: replicas, each with its devices; a rank of data-parallel attention is one."""
    if not notes.disaggregated(row):
        return None
    found = notes.pools(row)
    if found is None:
        return Refusal("disaggregated", "what the pools of prefill and decode consist of is not stated")
    usual = next((n for name, n in _WORKERS.items() if name in row.engine), _ONE_EACH)
    if not _workers_stated(row):
        told.append(
            f"how many workers there are is not stated: {usual[0]} and {usual[1]}, as other rows of {row.engine}"
        )
    if "TensorRT" in row.engine:
        cells["engine_version"] = ""  # it is that of Dynamo, which routes between the pools
    pools = [_pool(workers or many, *each) for (workers, *each), many in zip(found, usual, strict=True)]
    replicas, tp, ep = zip(*pools, strict=True)
    cells |= {
        "disaggregated": f"{replicas[0]} prefill + {replicas[1]} decode",
        "devices": str(tp[1] * sum(replicas)),
        "prefill_tp": str(tp[0]),
        "prefill_ep": str(ep[0]),
        "tp": str(tp[1]),
        "pp": "1",
        "dp": str(replicas[1]),
        "ep": str(ep[1]),
    }
    return None


def _workers_stated(row: Row) -> bool:
    return all(pool[0] for pool in notes.pools(row) or ())


def _pool(workers: int, tp: int, dp: int, ep: int) -> tuple[int, int, int]:
    """(replicas, devices of each, those that share experts): where attention is data-parallel, all ranks share them."""
    return workers * dp, tp, max(ep, tp * dp) if dp > 1 else ep


def _load(row: Row, cells: dict[str, str], told: list[str]) -> Refusal | None:
    """How requests came."""
    many = _REQUESTS.search(row.notes)
    cells["requests"] = next(filter(None, many.groups())) if many else ""
    if row.batch is not None:
        cells |= {"arrival": "closed loop", "concurrency": f"{row.batch:g}"}
        return None
    if notes.rate_per_s(row) is None:
        return Refusal("batch", "neither concurrency nor a rate is stated")
    cells |= {"arrival": "request rate", "rate_per_s": _text(notes.rate_per_s(row))}
    return None


def _lengths(row: Row, cells: dict[str, str], told: list[str]) -> Refusal | None:
    """The lengths of a named data set, else those that are stated, else those of the notes."""
    dataset = _DATASET.search(row.notes)
    if dataset is not None and dataset[1] in workloads():
        cells["workload"] = dataset[1]
        return None
    noted = {"input_tokens": notes.input_tokens(row), "output_tokens": notes.output_tokens(row)}
    for name, about in noted.items():
        value: float | None = getattr(row, name)
        if value is None:
            if about is None:
                return Refusal("lengths", "prompt and output length not stated")
            value, cells["workload"] = about.value, AS_NOTED
        cells[name] = _text(value)
    return None


def _text(value: str | float | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"
