"""The catalogue as Rich tables: a list of items, or one item with the source of every figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from waferline.machines.device import Citation, Device
from waferline.machines.figures import Figure, figures
from waferline.text import dollars, metric

_WIDTH = 130  # of the widest table; narrower terminals fold its lines, and a pipe gets them whole
_BEST = ("bf16", "fp16", "fp32")  # the peak that a list shows: 16 bit, or what there is


def console() -> Console:
    """A console that never squeezes a table below its width."""
    plain = Console()
    return plain if plain.width >= _WIDTH else Console(width=_WIDTH)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: int = 0) -> Table:
    """A plain table whose last `right` columns are right-aligned."""
    grid = Table(
        title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="dim"
    )
    for i, name in enumerate(columns):
        grid.add_column(name, justify="right" if i >= len(columns) - right else "left", no_wrap=i < len(columns) - 1)
    for row in rows:
        grid.add_row(*row)
    return grid


def hardware_row(device: Device) -> tuple[str, ...]:
    """Name, kind, 16-bit peak, main memory, bandwidth, power and price, as a list shows them."""
    fmt = next(f for f in (*_BEST, *device.peak_flops) if f in device.peak_flops)
    price = dollars(device.price_usd) if device.price_usd else "–"
    hourly = dollars(device.hourly_usd) if device.hourly_usd else "–"
    return (
        device.name,
        device.kind,
        f"{metric(device.peak_flops[fmt], 'op/s' if fmt.startswith('int') else 'FLOP/s')} {fmt}",
        metric(device.capacity_bytes, "B"),
        metric(device.bandwidth_bytes_per_s, "B/s"),
        metric(device.tdp_w, "W") if device.tdp_w else "–",
        price,
        hourly,
    )


def print_hardware_list(devices: Sequence[Device]) -> None:
    """All machines, one table a group."""
    out = console()
    columns = ("name", "kind", "peak", "memory", "bandwidth", "power", "price", "per hour")
    for group in dict.fromkeys(d.group for d in devices):
        rows = [hardware_row(d) for d in devices if d.group == group]
        out.print(table(f"{group} ({len(rows)})", columns, rows, right=6))
        out.print()


def print_hardware(device: Device, assumed_from: str | None) -> None:
    """One machine in full; the number beside a figure is that of its source below."""
    out = console()
    numbers = {citation: i for i, citation in enumerate(device.citations, start=1)}
    out.print(f"[bold]{device.title}[/bold]  {device.name}, {device.kind}, {device.architecture}, {device.year}")
    if assumed_from:
        out.print(f"'{assumed_from}' does not say which variant; this one is taken")
    rows = [(f.name, _value(f), _marks(f.citations, numbers)) for f in figures(device)]
    out.print(table("", ("figure", "value", "source"), rows))
    if device.aliases:
        out.print(f"also: {', '.join(device.aliases)}", style="dim")
    if device.notes:
        out.print(device.notes.strip(), highlight=False)
    _print_citations(out, numbers)


def _value(figure: Figure) -> str:
    if figure.unit.startswith("USD"):
        return dollars(figure.value) + figure.unit.removeprefix("USD")
    if figure.unit:
        return metric(figure.value, figure.unit)
    return f"{figure.value:,g}" if figure.value < 1e6 else metric(figure.value)


def _marks(citations: Iterable[Citation], numbers: Mapping[Citation, int]) -> str:
    return ", ".join(str(numbers[c]) for c in citations)


def _print_citations(out: Console, numbers: Mapping[Citation, int]) -> None:
    out.print("Sources", style="bold")
    for citation, number in numbers.items():
        out.print(f"{number:3d}  {citation.title} ({citation.date})", highlight=False)
        out.print(f"     {citation.url}", style="dim", highlight=False, soft_wrap=True)


def print_item(title: str, fields: Mapping[str, Any], sources: Sequence[Mapping[str, Any]]) -> None:
    """A model or a format: its fields, then its sources."""
    out = console()
    out.print(table(title, ("", ""), [(k, _text(v)) for k, v in fields.items() if v not in (None, "", [], ())]))
    if sources:
        out.print("Sources", style="bold")
    for source in sources:
        line = "  ".join(str(source[k]) for k in ("title", "date", "url") if source.get(k))
        out.print(line, soft_wrap=True, highlight=False)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return metric(value) if abs(value) >= 1e5 else f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
