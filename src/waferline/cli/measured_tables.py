"""What `waferline measure` prints: predicted and measured side by side, spread and warnings never left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _console() -> Any:
    from rich.console import Console

    return Console()


def _si(value: float, unit: str) -> str:
    """`16.4 GB/s`: three digits and a prefix."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def _seconds(value: float) -> str:
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def _warn(console: Any, warnings: Any) -> None:
    for warning in dict.fromkeys(warnings):
        console.print(f"note: {warning}", style="yellow")


def print_machine(data: Mapping[str, Any]) -> None:
    """The machine's roofs by level and thread count, and how near its kernels come."""
    from rich.table import Table

    console = _console()
    counts = list(data["levels"][0]["bandwidth_bytes_per_s"])
    table = Table("level", "capacity", *(f"{n} threads" if n != "1" else "1 thread" for n in counts), "spread")
    for level in data["levels"]:
        figures = level["bandwidth_bytes_per_s"]
        worst = max(f["spread"] for f in figures.values())
        table.add_row(
            level["name"],
            _si(level["capacity_bytes"], "B"),
            *(_si(figures[n]["best"], "B/s") for n in counts),
            f"{worst:.1%}",
        )
    table.add_section()
    for fmt, figures in data["peak_flops"].items():
        worst = max(f["spread"] for f in figures.values())
        table.add_row(f"{fmt} peak", "", *(_si(figures[n]["best"], "FLOP/s") for n in counts), f"{worst:.1%}")
    console.print(f"{data['machine']['cpu']}, {data['machine']['isa']}, {data['clock_hz'] / 1e9:.2f} GHz")
    console.print(table)
    console.print(f"fork and join {_seconds(data['fork_join_s'])}, call {_seconds(data['launch_s'])}")
    if data["calibrated"]:
        kernels = Table("kernels", "of bandwidth", "of peak", "floor", "worst misfit")
        for key, fitted in data["calibrated"].items():
            c = fitted["c"]
            shares = (f"{c[k]:.0%}" for k in ("bandwidth_efficiency", "compute_efficiency"))
            kernels.add_row(key, *shares, _seconds(c["floor_s"]), f"{fitted['worst_error']:.1%}")
        console.print(kernels)
    console.print("saved " + ", ".join(data["saved"]))
    _warn(console, data["warnings"])


def print_operator(data: Mapping[str, Any]) -> None:
    """One operator: measured, predicted, the difference, and the share of the roof."""
    from rich.table import Table

    console, measured, predicted = _console(), data["measured"], data["predicted"]
    table = Table("", "time", "bytes/s", "FLOP/s", "note")
    rates = measured["rates"]

    def rate(key: str, unit: str) -> str:
        return _si(rates[key], unit) if key in rates else ""

    quiet = f"median of {measured['repeats']}, {measured['quiet_repeats']} undisturbed, spread {measured['spread']:.1%}"
    table.add_row(
        "measured", _seconds(measured["median_s"]), rate("bytes_per_s", "B/s"), rate("flops_per_s", "FLOP/s"), quiet
    )
    if predicted:
        off = predicted["expected_s"] / measured["median_s"] - 1.0
        span = f"{_seconds(predicted['low90_s'])} to {_seconds(predicted['high90_s'])}"
        note = f"{off:+.1%} off, 90 % {span}, {predicted['bound']} bound, {predicted['tier']}"
        table.add_row("predicted", _seconds(predicted["expected_s"]), "", "", note)
        table.add_row("speed of light", _seconds(predicted["light_s"]), "", "", predicted["machine"])
    console.print(measured["name"])
    console.print(table)
    check = measured["check"]
    console.print(f"checked against {check['reference']}: {check['error']:.2g} off, {check['tolerance']:.2g} allowed")
    if "roof" in data:
        console.print(f"{data['roof']['bandwidth_share']:.0%} of the memory bandwidth")
    if not predicted:
        console.print("no prediction: run `waferline measure machine` first, or name a machine with --on")
    _warn(console, measured["conditions"]["warnings"])


def print_export(data: Mapping[str, Any]) -> None:
    _console().print(f"{data['output']}: {data['rows']} rows")


def print_resident(data: Mapping[str, Any]) -> None:
    """Rows per second of each shape beside the target, and what that is in FLOP/s."""
    from rich.table import Table

    console = _console()
    table = Table("shape", "n x p", "time", "rows/s", "FLOP/s", "of target", "verdict", "parity", "spread")
    for r in data["results"]:
        record, shape = r["record"], r["shape"]
        table.add_row(
            shape["label"],
            f"{shape['n']} x {shape['p']}",
            _seconds(record["median_s"]),
            f"{r['measured_rows_per_s']:,.0f}",
            _si(r["measured_flops_per_s"], "FLOP/s"),
            f"{r['fraction']:.2f}",
            r["verdict"],
            f"{record['check']['error']:.1e}",
            f"{r['spread']:.1%}",
        )
        _warn(console, record["conditions"]["warnings"])
    console.print(f"device-resident normal equations on {data['device']}, fp64")
    console.print(table)


_SERVER_COLUMNS = (("TTFT", "ttft_s"), ("ITL", "itl_s"), ("TPOT", "tpot_s"), ("latency", "latency_s"))


def print_server(data: Mapping[str, Any]) -> None:
    """Every load: percentiles, throughput, errors, and what predict says."""
    from rich.table import Table

    console = _console()
    table = Table("load", *(f"{name} p50 / p99" for name, _ in _SERVER_COLUMNS), "tokens/s", "errors")
    for record in data["results"]:
        s = record["summary"]
        errors = ", ".join(f"{n} {kind}" for kind, n in s["errors"].items()) or "none"
        cells = (_span(s.get(key)) for _, key in _SERVER_COLUMNS)
        rate = s["output_tokens_per_s"]
        table.add_row(record["name"], *cells, "" if rate is None else f"{rate:.4g}", errors)
        p = record.get("predicted")
        if p:
            cells = (_seconds(p[key]) if key in p else "" for _, key in _SERVER_COLUMNS)
            table.add_row("  predicted", *cells, f"{p['output_tokens_per_s']:.4g}", "")
    console.print(table)
    for record in data["results"]:
        _warn(console, record["conditions"]["warnings"])
    counted = {c for r in data["results"] for c in r["summary"]["counted_by"]}
    console.print("tokens counted by " + ", ".join(sorted(counted)))


def _span(spread: Mapping[str, float] | None) -> str:
    return f"{_seconds(spread['p50'])} / {_seconds(spread['p99'])}" if spread else ""


def print_model(data: Mapping[str, Any]) -> None:
    """Tokens per second of both phases beside predicted, then the operators of each."""
    from rich.table import Table

    console, predicted = _console(), data["predicted"]
    phases = (("prefill", "prompt_tokens", data["prompt"]), ("decode", "output_tokens", 1))
    table = Table("phase", "measured", "tokens/s", "spread", "predicted tokens/s", "off")
    for phase, unit, tokens in phases:
        m = data[phase]
        row = [phase, _seconds(m["median_s"]), f"{m['rates'][unit + '_per_s']:.4g}", f"{m['spread']:.1%}"]
        if predicted:
            expected_s = predicted[phase]["expected_s"]
            row += [f"{tokens / expected_s:.4g}", f"{expected_s / m['median_s'] - 1:+.1%}"]
        table.add_row(*row)
    console.print(
        f"{data['model']}: {data['prompt']} prompt and {data['output']} output tokens, {data['threads']} threads"
    )
    console.print(table)
    operators = Table("operator", "prefill", "predicted", "decode", "predicted")
    for name in dict.fromkeys([*data["prefill_operators_s"], *data["decode_operators_s"]]):
        cells = []
        for phase, _, _ in phases:
            cells.append(_time_or_none(data[f"{phase}_operators_s"].get(name)))
            cells.append(_time_or_none(predicted[phase]["operators_s"].get(name)) if predicted else "")
        operators.add_row(name, *cells)
    console.print(operators)
    for phase, _, _ in phases:
        _warn(console, data[phase]["conditions"]["warnings"])


def _time_or_none(value: float | None) -> str:
    return "" if value is None else _seconds(value)
