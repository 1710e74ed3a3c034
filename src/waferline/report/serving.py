"""A simulated server: what users saw, how the server ran, and the picture of both over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from waferline.report.table import Block, Column, Table
from waferline.text import metric, number, percent
from waferline.traffic.serving_run import PERCENTILES, ServingRun

_LATENCIES = (("TTFT", "ttft"), ("TPOT", "tpot"), ("ITL", "itl"), ("whole request", "e2e"))
_SERVER = (
    ("requests", "requests", number),
    ("duration", "duration_s", "s"),
    ("requests/s", "request_per_s", number),
    ("output tokens/s", "output_tokens_per_s", number),
    ("all tokens/s", "total_tokens_per_s", number),
    ("devices", "devices", number),
    ("running, mean", "running_mean", number),
    ("KV cache used, mean", "memory_share_mean", percent),
    ("busy", "busy_share", percent),
    ("preemptions", "preemptions", number),
    ("goodput", "goodput_share", percent),
    ("goodput, requests/s", "goodput_request_per_s", number),
)


def serving_report(outcome: ServingRun) -> Iterator[Block]:
    """Everything `waferline simulate serving` says."""
    answer, values = outcome.answer, outcome.values
    devices = values["devices"]
    yield f"{answer.model.title} on {answer.device.title}{f' × {devices}' if devices > 1 else ''}", "title"
    about = answer.result.about
    yield f"{about['precision']}; engine {about['engine']}; {outcome.how}", "note"
    yield ""
    rows = [
        (label, *(values.get(f"{name}_{kind}_s") for kind in ("mean", *(f"p{p}" for p in PERCENTILES))))
        for label, name in _LATENCIES
    ]
    columns: tuple[Column | str, ...] = (
        "",
        Column("mean", unit="s"),
        *(Column(f"p{p}", unit="s") for p in PERCENTILES),
    )
    yield Table("What users see", columns, rows)
    body = [(label, _shown(values[name], how)) for label, name, how in _SERVER if name in values]
    yield Table("The server", ("", Column("value", left=False)), body)
    for name, met in values.get("slo_met", {}).items():
        yield f"SLO {name}: {'met' if met else 'missed'}", "note" if met else "alarm"
    yield f"verdict: {outcome.verdict}", "alarm" if outcome.verdict == "overloaded" else "note"
    for note in answer.notes:
        yield f"note: {note}", "note"


def _shown(value: Any, how: Any) -> str:
    return metric(value, how) if isinstance(how, str) else str(how(value))
