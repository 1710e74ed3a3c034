"""A simulated server: what users saw, how the server ran, and the picture of both over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from waferline.report.table import Block, Column, Table
from waferline.text import metric, number, percent
from waferline.traffic.calibrate import Calibration
from waferline.traffic.serving_run import PERCENTILES, ServingRun

_LATENCIES = (("TTFT", "ttft"), ("TPOT", "tpot"), ("ITL", "itl"), ("whole request", "e2e"))
_SERVER = (
    ("requests", "requests", number),
    ("duration", "duration_s", "s"),
    ("requests/s", "request_per_s", number),
    ("output tokens/s", "output_tokens_per_s", number),
    ("all tokens/s", "total_tokens_per_s", number),
    ("capacity, requests/s", "capacity_request_per_s", number),
    ("devices", "devices", number),
    ("replicas up, mean", "replicas_mean", number),
    ("running, mean", "running_mean", number),
    ("KV cache used, mean", "memory_share_mean", percent),
    ("busy", "busy_share", percent),
    ("preemptions", "preemptions", number),
    ("cut off by failures", "cut_off", number),
    ("prompt tokens from the prefix cache", "prefix_hit_share", percent),
    ("cache moved", "kv_moved_bytes", "B"),
    ("power, all devices", "power_w", "W"),
    ("energy a request", "energy_j_per_request", "J"),
    ("energy an output token", "energy_j_per_output_token", "J"),
    ("cost a request, $", "cost_usd_per_request", number),
    ("cost a million output tokens, $", "cost_usd_per_mtok", number),
    ("goodput", "goodput_share", percent),
    ("goodput, requests/s", "goodput_request_per_s", number),
)
_GROWN = ("ttft", "e2e")  # in an overloaded run they say how long it was
_ALONE = ("replicas_mean",)  # said of more than one
_OF_A_TENANT = ("ttft_mean_s", "ttft_p99_s", "tpot_mean_s")


def serving_report(outcome: ServingRun) -> Iterator[Block]:
    """Everything `waferline simulate serving` says."""
    answer, values = outcome.answer, outcome.values
    devices = values["devices"]
    yield f"{answer.model.title} on {answer.device.title}{f' × {devices}' if devices > 1 else ''}", "title"
    about = answer.result.about
    yield f"{about['precision']}; engine {about['engine']}; {outcome.how}", "note"
    if "techniques" in about:
        yield f"with {about['techniques']}", "note"
    yield ""
    grown = _GROWN if outcome.verdict == "overloaded" else ()
    rows = [
        (label, *("grows" for _ in range(len(PERCENTILES) + 1)))
        if name in grown
        else (label, *(values.get(f"{name}_{kind}_s") for kind in ("mean", *(f"p{p}" for p in PERCENTILES))))
        for label, name in _LATENCIES
    ]
    columns: tuple[Column | str, ...] = (
        "",
        Column("mean", unit="s"),
        *(Column(f"p{p}", unit="s") for p in PERCENTILES),
    )
    yield Table("What users see", columns, rows)
    body = [
        (label, _shown(values[name], how))
        for label, name, how in _SERVER
        if values.get(name) and (name not in _ALONE or values[name] != 1.0)
    ]
    yield Table("The server", ("", Column("value", left=False)), body)
    for name, seen in values.get("tenants", {}).items():
        told = ", ".join(
            f"{key.removesuffix('_s').replace('_', ' ')} {metric(seen[key], 's')}"
            for key in _OF_A_TENANT
            if key in seen
        )
        yield f"tenant {name}: {seen['requests']} requests, {told}", "note"
    for name, met in values.get("slo_met", {}).items():
        yield f"SLO {name}: {'met' if met else 'missed'}", "note" if met else "alarm"
    yield f"verdict: {outcome.verdict}", "note" if outcome.verdict in ("stable", "all served") else "alarm"
    for note in answer.notes:
        yield f"note: {note}", "note"


def _shown(value: Any, how: Any) -> str:
    return metric(value, how) if isinstance(how, str) else str(how(value))


def calibration_report(found: Calibration) -> Iterator[Block]:
    """Where a gap comes from."""
    rows = [(name, found.measured[name], found.simulated[name]) for name in found.measured]
    named = [(name.removesuffix("_s").replace("_", " "), a, b) for name, a, b in rows]
    yield Table("Measured and simulated", ("", Column("measured", unit="s"), Column("simulated", unit="s")), named)
    parts = [
        ("prefill steps", f"× {found.prefill:.2f}"),
        ("decode steps", f"× {found.decode:.2f}"),
        ("host, a step", metric(found.host_s, "s")),
        ("client, a request", metric(found.client_s, "s")),
        ("prompts cached already", percent(found.cached_share)),
    ]
    yield Table("What would close the gap", ("", Column("change", left=False)), parts)
    yield f"gap (root mean square): {percent(found.before)} before, {percent(found.after)} after", "note"
