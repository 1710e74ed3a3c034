"""A comparison of machines as one table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console

from waferline.predict.compare import Row
from waferline.predict.dispatch import Answer
from waferline.report.tables import simple_table, value
from waferline.text import dollars, metric, percent

# column -> (field of any result kind that has it, how to write it)
_SERVE = (
    "machine",
    "devices",
    "fits",
    "memory",
    "TTFT",
    "TPOT",
    "tok/s per user",
    "tok/s in total",
    "bound by",
    "J/token",
    "$/Mtok",
)
_PASS = ("machine", "fits", "latency", "samples/s", "MFU", "bound by", "J/sample")


def print_comparison(rows: Sequence[Row]) -> None:
    """Print all rows, then what each note or refusal says."""
    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    answers = [row.answer for row in rows if row.answer is not None]
    serving = any("ttft_s" in a.result for a in answers)
    columns, cells = (_SERVE, _serve_cells) if serving else (_PASS, _pass_cells)
    body = [cells(row.answer) if row.answer else [row.hardware, *["–"] * (len(columns) - 1)] for row in rows]
    title = answers[0].model.title if answers else ""
    console.print(simple_table(title, columns, body))
    for row in rows:
        if row.refused is not None:
            console.print(f"[dim]{row.hardware}: {row.refused}[/dim]")
        elif row.answer is not None:
            for note in row.answer.notes:
                console.print(f"[dim]{row.hardware}: {note}[/dim]")


def _text(answer: Answer, name: str) -> str:
    return str(np.asarray(answer.result[name]).flat[0]) if name in answer.result else "–"


def _serve_cells(answer: Answer) -> list[str]:
    r = answer.result
    bound = "decode_bottleneck" if "decode_bottleneck" in r else "bottleneck"
    return [
        answer.device.name,
        f"{value(r, 'devices'):.0f}",
        "yes" if answer.fits else "no",
        percent(value(r, "memory_utilization")),
        metric(value(r, "ttft_s"), "s"),
        metric(value(r, "itl_s"), "s"),
        f"{value(r, 'user_tokens_per_s'):.4g}",
        f"{value(r, 'throughput_tokens_per_s'):.4g}",
        _text(answer, bound),
        metric(value(r, "energy_j_per_token"), "J"),
        dollars(value(r, "cost_usd_per_mtoken")),
    ]


def _pass_cells(answer: Answer) -> list[str]:
    r = answer.result
    time = "latency_s" if "latency_s" in r else "step_time_s"
    return [
        answer.device.name,
        "yes" if answer.fits else "no",
        metric(value(r, time), "s"),
        f"{value(r, 'samples_per_s'):.4g}",
        percent(value(r, "mfu")),
        _text(answer, "bottleneck"),
        metric(value(r, "energy_j_per_sample"), "J"),
    ]
