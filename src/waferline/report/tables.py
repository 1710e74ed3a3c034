"""Answers as Rich tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from waferline.predict.dispatch import Answer
from waferline.predict.explain import HEADER, explain_rows
from waferline.predict.result import Result
from waferline.text import dollars, metric, percent
from waferline.units import SUFFIXES


def simple_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> Table:
    """A table with its first `left` columns left-aligned and the rest right-aligned."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="dim"
    )
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < left else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    return table


def value(result: Result, name: str) -> float:
    """The first scenario's value of a field; nan when the result has no such field."""
    return float(np.asarray(result[name]).flat[0]) if name in result else float("nan")


def print_answer(answer: Answer, *, explain: bool = False) -> None:
    """Everything `waferline predict` says, to standard output."""
    console = Console(width=None if Console().is_terminal else 120, highlight=False, soft_wrap=False)
    result = answer.result
    about = result.about
    console.print(f"[bold]{answer.model.title}[/bold] on [bold]{answer.device.title}[/bold]{_group(result)}")
    console.print(f"[dim]{about.get('precision', '')}; engine {about.get('engine', '–')}; {result.how}[/dim]\n")
    if not answer.fits:
        _print_misfit(console, answer)
    for print_part in _PARTS.get(answer.kind, (_print_values,)):
        print_part(console, answer)
    if explain:
        for phase in dict.fromkeys(r.phase for r in result.operators):
            console.print(simple_table(f"{phase}, operator by operator", HEADER, list(explain_rows(result, phase))))
            console.print()
    for note in (*result.notes, *answer.notes):
        console.print(f"[dim]note: {note}[/dim]")
    if result.not_modelled:
        console.print("[dim]not modelled: " + "; ".join(result.not_modelled) + "[/dim]")


def _group(result: Result) -> str:
    devices = value(result, "devices")
    return f" × {devices:.0f}" if devices > 1 else ""


def _print_misfit(console: Console, answer: Answer) -> None:
    need, have = value(answer.result, "device_memory_bytes"), value(answer.result, "capacity_bytes")
    sizes = f": it needs {metric(need, 'B')} and has {metric(have, 'B')}" if have == have else ""
    console.print(f"[bold red]Does not fit[/bold red] {answer.device.name}{sizes}.")
    if answer.remedies:
        console.print("It would fit with " + ", or ".join(f"{r.change} ({r.option})" for r in answer.remedies) + ".")
    console.print("[dim]The times below suppose that it fitted.[/dim]\n")


_MEMORY = (
    ("weights", "device_weights_bytes"),
    ("KV cache", "device_kv_bytes"),
    ("activations", "device_activation_bytes"),
    ("workspace", "device_workspace_bytes"),
    ("total", "device_memory_bytes"),
    ("capacity", "capacity_bytes"),
)


def _print_memory(console: Console, answer: Answer) -> None:
    result = answer.result
    rows = [[name, metric(value(result, key), "B")] for name, key in _MEMORY if key in result]
    rows.append(["used", percent(value(result, "memory_utilization"))])
    console.print(simple_table("Memory of each device", ("", "per device"), rows))
    console.print()


def _span(result: Result, name: str, unit: str = "s") -> str:
    return f"{metric(value(result, name + '_low90_s'), unit)} – {metric(value(result, name + '_high90_s'), unit)}"


def _rate(rate: float) -> str:
    return f"{metric(rate)} tok/s" if rate >= 1e4 else f"{rate:,.4g} tok/s"


def _print_speed(console: Console, answer: Answer) -> None:
    r = answer.result
    spans = {"ttft": _span(r, "ttft"), "itl": _span(r, "itl")}
    slow, fast = value(r, "itl_high90_s"), value(r, "itl_low90_s")
    batch = value(r, "throughput_tokens_per_s") * value(r, "itl_s")
    rows = [
        ["TTFT", metric(value(r, "ttft_s"), "s"), spans["ttft"], metric(value(r, "light_ttft_s"), "s")],
        ["TPOT (ITL)", metric(value(r, "itl_s"), "s"), spans["itl"], metric(value(r, "light_itl_s"), "s")],
        [
            "tokens/s per user",
            _rate(value(r, "user_tokens_per_s")),
            f"{_rate(1 / slow)} – {_rate(1 / fast)}",
            _rate(value(r, "light_user_tokens_per_s")),
        ],
        [
            "tokens/s in total",
            _rate(value(r, "throughput_tokens_per_s")),
            f"{_rate(batch / slow)} – {_rate(batch / fast)}",
            _rate(value(r, "light_throughput_tokens_per_s")),
        ],
        ["whole request", metric(value(r, "request_s"), "s"), "", metric(value(r, "light_request_s"), "s")],
    ]
    if "loaded_ttft_s" in r:
        rows.append(["TTFT under load", metric(value(r, "loaded_ttft_s"), "s"), _span(r, "loaded_ttft"), ""])
        rows.append(["TPOT under load", metric(value(r, "loaded_tpot_s"), "s"), _span(r, "loaded_tpot"), ""])
        rows.append(["tokens/s under load", _rate(value(r, "loaded_throughput_tokens_per_s")), "", ""])
        rows.append(["sequences running", f"{value(r, 'running_sequences'):.0f}", "", ""])
    if "energy_j_per_token" in r:
        rows.append(["energy per token", metric(value(r, "energy_j_per_token"), "J"), "", ""])
    if "cost_usd_per_mtoken" in r:
        rows.append(["cost per million tokens", dollars(value(r, "cost_usd_per_mtoken")), "", ""])
    console.print(simple_table("Speed", ("", "expected", "90 % interval", "speed of light"), rows))
    console.print()


def _print_phases(console: Console, answer: Answer) -> None:
    r = answer.result
    rows = []
    for phase in ("prefill", "decode"):
        rows.append(
            [
                phase,
                str(np.asarray(r[f"{phase}_bottleneck"]).flat[0]),
                f"{value(r, f'{phase}_intensity_flops_per_byte'):.3g}",
                f"{value(r, f'{phase}_ridge_flops_per_byte'):.3g}",
                percent(value(r, f"{phase}_mfu")),
                percent(value(r, f"{phase}_mbu")),
                metric(value(r, f"{phase}_power_w"), "W"),
            ]
        )
    columns = ("phase", "bottleneck", "FLOP/byte", "ridge point", "MFU", "MBU", "power")
    console.print(simple_table("Why", columns, rows, left=2))
    console.print()


_PASS_ROWS: tuple[tuple[str, str, str], ...] = (
    ("latency", "latency_s", "s"),
    ("step time", "step_time_s", "s"),
    ("samples/s", "samples_per_s", ""),
    ("tokens/s", "total_tokens_per_s", ""),
    ("arithmetic intensity", "intensity_flops_per_byte", "FLOP/B"),
    ("ridge point", "ridge_flops_per_byte", "FLOP/B"),
    ("weights", "weights_bytes", "B"),
    ("memory", "device_memory_bytes", "B"),
    ("power", "power_w", "W"),
    ("energy per sample", "energy_j_per_sample", "J"),
)


def _print_pass(console: Console, answer: Answer) -> None:
    r = answer.result
    rows = []
    for name, key, unit in _PASS_ROWS:
        if key in r:
            stem = key.removesuffix("_s")
            span = _span(r, stem) if f"{stem}_low90_s" in r else ""
            light = metric(value(r, f"light_{key}"), unit) if f"light_{key}" in r else ""
            rows.append([name, metric(value(r, key), unit), span, light])
    rows.append(["bottleneck", str(np.asarray(r["bottleneck"]).flat[0]), "", ""])
    for key in ("mfu", "mbu", "hfu"):
        if key in r:
            rows.append([key.upper(), percent(value(r, key)), "", ""])
    console.print(simple_table("Speed", ("", "expected", "90 % interval", "speed of light"), rows))
    console.print()


_SYMBOLS = {
    "second": "s",
    "byte": "B",
    "token/s": "tok/s",
    "token": "tokens",
    "joule/token": "J",
    "joule": "J",
    "watt": "W",
    "cycle": "cycles",
}


def _spoken(name: str) -> str:
    """A field's name without its unit, in words."""
    stem = next((name.removesuffix(suffix) for suffix, _ in SUFFIXES if name.endswith(suffix)), name)
    return stem.replace("_", " ")


def _written(item: Any, unit: str) -> str:
    if not isinstance(item, float | np.floating):
        return str(item)
    if unit in ("token/s", "token"):
        return f"{float(item):,.4g} {_SYMBOLS[unit]}"
    return metric(float(item), _SYMBOLS.get(unit, unit)) if unit else f"{float(item):,.4g}"


def _print_values(console: Console, answer: Answer) -> None:
    """Any other result: every scalar field with its unit."""
    fields = answer.result.fields()
    rows = []
    for name, unit in fields.items():
        array = np.asarray(answer.result[name])
        if array.size == 1:
            rows.append([_spoken(name), _written(array.flat[0], unit)])
    console.print(simple_table(answer.kind, ("", "value"), rows))
    console.print()


_PARTS: Mapping[str, tuple[Callable[[Console, Answer], Any], ...]] = {
    "serve": (_print_memory, _print_speed, _print_phases),
    "infer": (_print_pass,),
    "train": (_print_pass,),
}
