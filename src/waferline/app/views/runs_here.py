"""Every model of the catalogue on one machine: what fits, and how fast it generates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

import numpy as np

from waferline.app.page import Page
from waferline.app.question import Control, count
from waferline.errors import InvalidInputError, WaferlineError
from waferline.machines.hardware import load_hardware, resolve_hardware
from waferline.predict.scenario import Scenario, run
from waferline.report.charts.chart import Axis
from waferline.report.charts.scatter import Group, scatter
from waferline.report.table import Column, Table
from waferline.text import metric, number, percent
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model
from waferline.workloads.models import model_names
from waferline.workloads.spec import ModelSpec, Transformer

_FORMATS = "q4_k_m,q8_0,bf16"
_READING = 10.0  # tokens/s: faster than people read
CONTROLS = (
    Control("on", "Machine", "machine", "rtx-4090", option="--on"),
    Control("formats", "Formats", "text", _FORMATS, hint="separated by commas"),
    Control("context", "Context, tokens", "count", "8192"),
    Control("fits", "Show", "choice", "what fits", ("what fits", "everything")),
)


@cache
def _models() -> tuple[Transformer, ...]:
    """Models that generate text, the largest first."""
    specs = (load_model(name) for name in model_names())
    found = [s for s in specs if isinstance(s, Transformer) and s.has_head]
    return tuple(sorted(found, key=lambda s: -parameter_count(s).total))


@lru_cache(maxsize=64)
def _rows(machine: str, fmt: str, context: int) -> tuple[tuple[Any, ...], ...]:
    """(model, parameters, format, memory, share of it, fits, tokens/s, TTFT) of every model that the machine computes."""
    return tuple(_answers(machine, fmt, context))


def _answers(machine: str, fmt: str, context: int) -> Iterator[tuple[Any, ...]]:
    device = load_hardware(machine)
    for model in _models():
        if model.max_positions and context > model.max_positions:
            continue
        asked = Scenario(
            model=model, machine=device, precision=fmt, batch=1, prompt=context, output=256, intervals=False
        )
        try:
            found = run(asked)
        except WaferlineError:
            continue
        r = {key: float(np.asarray(found.result[key]).flat[0]) for key in _READ if key in found.result}
        yield (model.name, parameter_count(model).total, fmt, *(r.get(key, float("nan")) for key in _READ[:2]), found.fits,
               r.get("user_tokens_per_s", float("nan")), r.get("ttft_s", float("nan")))  # fmt: skip


_READ = ("device_memory_bytes", "memory_utilization", "user_tokens_per_s", "ttft_s")


def answer(values: Mapping[str, str], _: ModelSpec | None) -> Page:
    """Models by format, the largest that fits first."""
    machine, context = resolve_hardware(values["on"]), count("context", values["context"]) or 8192
    formats = [name.strip() for name in values["formats"].split(",") if name.strip()]
    if not 0 < len(formats) <= 6:
        raise InvalidInputError(f"1 to 6 formats, not {len(formats)}")
    rows = [row for fmt in formats for row in _rows(machine, fmt, context)]
    fitting = [row for row in rows if row[5]]
    shown = sorted(rows if values["fits"] == "everything" else fitting, key=lambda row: (not row[5], -row[1], row[2]))
    columns = ("model", Column("parameters", number_of), "format", Column("memory", unit="B"), Column("of it", percent),
               Column("fits"), Column("tok/s", number), Column("TTFT", unit="s"))  # fmt: skip
    title = f"{len(fitting)} of {len(rows)} fit {load_hardware(machine).title} with {context:,} tokens of context"
    groups = [
        Group(name=fmt, x=[r[1] for r in mine], y=[r[6] for r in mine],
              text=[f"{r[0]}, {fmt}\n{metric(r[3], 'B')}, {r[6]:,.1f} tokens/s" for r in mine])
        for fmt in formats
        if (mine := [r for r in fitting if r[2] == fmt])
    ]  # fmt: skip
    chart = scatter("What fits: speed by size", Axis(title="parameters", log=True),
                    Axis(title="tokens/s of one user", log=True), groups)  # fmt: skip
    table = Table(title, columns, shown)
    return Page(sentence=_sentence(fitting), charts=(chart,) if groups else (), blocks=(table,), data=table)


def number_of(parameters: float) -> str:
    """Parameters in billions or millions."""
    return f"{parameters / 1e9:.1f} B" if parameters >= 1e9 else f"{parameters / 1e6:.0f} M"


def _sentence(fitting: list[tuple[Any, ...]]) -> str:
    quick = [row for row in fitting if row[6] >= _READING]
    if not quick:
        return "Nothing generates faster than people read." if fitting else "Nothing fits."
    best = max(quick, key=lambda row: (row[1], row[6]))
    return f"The largest that is faster than people read: {best[0]} in {best[2]}, {best[6]:,.0f} tokens/s."
