"""Every model of the catalogue on one machine: what fits, and how fast it generates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from waferline.app.page import Page
from waferline.app.question import Control, count
from waferline.errors import InvalidInputError
from waferline.machines.hardware import load_hardware, resolve_hardware
from waferline.report.charts.chart import Axis
from waferline.report.charts.scatter import Group, scatter
from waferline.report.table import Column, Table
from waferline.text import metric, number, percent
from waferline.traffic.planning.here import LEAST, Run, every_run
from waferline.workloads.spec import ModelSpec

_FORMATS = "q4_k_m,q8_0,bf16"
CONTROLS = (
    Control("on", "Machine", "machine", "rtx-4090", option="--on"),
    Control("formats", "Formats", "text", _FORMATS, hint="separated by commas"),
    Control("context", "Context, tokens", "count", "8192"),
    Control("fits", "Show", "choice", "what fits", ("what fits", "everything")),
)


@lru_cache(maxsize=64)
def _rows(machine: str, fmt: str, context: int) -> tuple[Run, ...]:
    return tuple(every_run(load_hardware(machine), fmt, context))


def answer(values: Mapping[str, str], _: ModelSpec | None) -> Page:
    """Models by format, the largest that fits first."""
    machine, context = resolve_hardware(values["on"]), count("context", values["context"]) or 8192
    formats = [name.strip() for name in values["formats"].split(",") if name.strip()]
    if not 0 < len(formats) <= 6:
        raise InvalidInputError(f"1 to 6 formats, not {len(formats)}")
    rows = [row for fmt in formats for row in _rows(machine, fmt, context)]
    fitting = [row for row in rows if row.fits]
    shown = [
        (r.model, r.params, r.precision, r.memory_bytes, r.memory_share, r.fits, r.tokens_per_s, r.ttft_s)
        for r in sorted(rows if values["fits"] == "everything" else fitting,
                        key=lambda r: (not r.fits, -r.params, r.precision))
    ]  # fmt: skip
    columns = ("model", Column("parameters", number_of), "format", Column("memory", unit="B"), Column("of it", percent),
               Column("fits"), Column("tok/s", number), Column("TTFT", unit="s"))  # fmt: skip
    title = f"{len(fitting)} of {len(rows)} fit {load_hardware(machine).title} with {context:,} tokens of context"
    groups = [
        Group(name=fmt, x=[r.params / 1e9 for r in mine], y=[r.tokens_per_s for r in mine],
              text=[f"{r.model}, {fmt}\n{metric(r.memory_bytes, 'B')}, {r.tokens_per_s:,.1f} tokens/s" for r in mine])
        for fmt in formats
        if (mine := [r for r in fitting if r.precision == fmt])
    ]  # fmt: skip
    chart = scatter("What fits: speed by size", Axis(title="billions of parameters", log=True),
                    Axis(title="tokens/s of one user", log=True), groups)  # fmt: skip
    table = Table(title, columns, shown)
    python = (
        f"import waferline as wl\n\nruns = wl.what_runs({machine!r}, formats={tuple(formats)!r}, context={context})"
    )
    return Page(sentence=_sentence(fitting), charts=(chart,) if groups else (), blocks=(table,), data=table,
                cli=f"waferline plan --on {machine}", python=python)  # fmt: skip


def number_of(parameters: float) -> str:
    """Parameters in billions or millions."""
    return f"{parameters / 1e9:.1f} B" if parameters >= 1e9 else f"{parameters / 1e6:.0f} M"


def _sentence(fitting: list[Run]) -> str:
    quick = [row for row in fitting if row.tokens_per_s >= LEAST]
    if not quick:
        return "Nothing generates faster than people read." if fitting else "Nothing fits."
    best = max(quick, key=lambda row: (row.params, row.tokens_per_s))
    return f"The largest that is faster than people read: {best.model} in {best.precision}, {best.tokens_per_s:,.0f} tokens/s."
