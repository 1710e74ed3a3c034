"""Rows of single values that a server's load made, as the serving run that they are figures of: requests at a rate of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping

from waferline.evidence import notes
from waferline.evidence.published_load import workloads
from waferline.evidence.request import Refusal, Request
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
_FIGURES = {"ttft_s": "ttft_{}_s", "tpot_s": "tpot_{}_s", "latency_s": "e2e_{}_s"}
_RATES = {"samples_per_s": "request_per_s"}


def served_request(row: Row, hardware: str) -> Request | Refusal:
    """The run that a row is a figure of, and which one."""
    cells = _cells(row)
    if isinstance(cells, Refusal):
        return cells
    asked = asked_of(Run(cells))
    if isinstance(asked, Refusal):
        return asked
    figure = _FIGURES.get(row.metric, _RATES.get(row.metric, row.metric))
    return Request(
        door="simulated",
        model=row.model,
        hardware=hardware,
        precision=str(asked.scenario.precision),
        engine=str(asked.scenario.engine),
        answer=figure.format("p50" if _MEDIAN.search(row.notes) else "mean"),
        run=tuple(cells.items()),
        assumed=asked.assumed,
    )


def _cells(row: Row) -> Mapping[str, str] | Refusal:
    """The row as a serving run states itself."""
    cells = {name: _text(getattr(row, name)) for name in _SAME}
    cells |= {name: found[1] for name, pattern in _OPTIONS.items() if (found := pattern.search(row.notes))}
    rate, dataset, many = (pattern.search(row.notes) for pattern in (_RATE, _DATASET, _REQUESTS))
    if rate is None:
        return Refusal("load", "the rate of its requests is not stated as a number")
    cells |= {
        "arrival": "request rate",
        "rate_per_s": rate[1],
        "requests": next(filter(None, many.groups())) if many else "",
    }
    if dataset is not None and dataset[1] in workloads():
        return cells | {"workload": dataset[1]}
    for name, stated, noted in (
        ("input_tokens", row.input_tokens, notes.input_tokens(row)),
        ("output_tokens", row.output_tokens, notes.output_tokens(row)),
    ):
        value = stated if stated is not None else noted and noted.value
        if value is None:
            return Refusal("lengths", "prompt and output length not stated")
        cells[name] = f"{value:g}"
        cells["workload"] = cells.get("workload", "") if stated is not None else "as noted"
    return cells


def _text(value: str | float | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"
