"""What was measured as tables: predicted beside measured, spread and warnings never left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from waferline.evidence.side_by_side.known import Known
from waferline.evidence.side_by_side.operator import Beside
from waferline.measure.measurements import Measured
from waferline.report.table import Block, Column, Table, right
from waferline.text import MISSING, metric, printable

TARGET = 0.15  # how far off a prediction of the page may be and still count as near


def _off(share: float) -> str:
    return f"{share:+.1%}"


def _time(header: str) -> Column:
    return Column(header, unit="s")


def _spread(header: str = "spread") -> Column:
    return Column(header, ".1%")


def _notes(warnings: Iterable[str]) -> Iterator[Block]:
    yield from ((f"note: {printable(warning)}", "alarm") for warning in dict.fromkeys(warnings))


def machine(data: Mapping[str, Any]) -> Iterator[Block]:
    """The machine's roofs by level and thread count, and how near its kernels come."""
    counts = list(data["levels"][0]["bandwidth_bytes_per_s"])
    threads = [f"{n} threads" if n != "1" else "1 thread" for n in counts]
    yield f"{data['machine']['cpu']}, {data['machine']['isa']}, {data['clock_hz'] / 1e9:.2f} GHz", "title"
    levels = [_roofs(x["name"], x["bandwidth_bytes_per_s"], counts, x["capacity_bytes"]) for x in data["levels"]]
    bytes_per_s = [Column(n, unit="B/s") for n in threads]
    yield Table("", ("level", Column("capacity", unit="B"), *bytes_per_s, _spread()), levels)
    peaks = [_roofs(fmt, figures, counts) for fmt, figures in data["peak_flops"].items()]
    yield Table("", ("peak", *(Column(n, unit="FLOP/s") for n in threads), _spread()), peaks)
    yield f"fork and join {metric(data['fork_join_s'], 's')}, call {metric(data['launch_s'], 's')}"
    if data["calibrated"]:
        shares = (Column("of bandwidth", ".0%"), Column("of peak", ".0%"))
        rows = [
            (key, x["c"]["bandwidth_efficiency"], x["c"]["compute_efficiency"], x["c"]["floor_s"], x["worst_error"])
            for key, x in data["calibrated"].items()
        ]
        yield Table("", ("kernels", *shares, _time("floor"), _spread("worst misfit")), rows)
    yield "saved " + ", ".join(data["saved"])
    yield from _notes(data["warnings"])


def _roofs(name: str, figures: Mapping[str, Any], counts: Sequence[str], *capacity: float) -> tuple[Any, ...]:
    return (name, *capacity, *(figures[n]["best"] for n in counts), max(f["spread"] for f in figures.values()))


def audit(data: Mapping[str, Any]) -> Iterator[Block]:
    """What is measured here beside a sheet's figures, and which share of them it is."""
    yield f"This machine against the sheet of {data['title']}", "title"
    rows = [
        (r["figure"], *(metric(r[key], r["unit"]) for key in ("measured", "sheet")), r["share"]) for r in data["rows"]
    ]
    columns = ("", Column("measured", left=False), Column("sheet", left=False), Column("share", ".0%"))
    yield Table("", columns, rows)
    yield f"note: peaks of {data['units']} of {data['units_of_sheet']} units of the sheet", "note"


def engine(data: Mapping[str, Any]) -> Iterator[Block]:
    """An engine's own benchmark, the constants that it gave, and their errors before, after and on tests left out."""
    yield data["source"], "title"
    rows = [
        (
            f"prompt of {r['prompt']}" if r["prompt"] else f"{r['output']} behind {r['depth']}",
            r["tokens_per_s"],
            r["spread"],
        )
        for r in data["readings"]
    ]
    yield Table("", ("tokens", Column("tokens/s", ",.1f"), _spread()), rows)
    names = (("before", "before"), ("after, same tests", "after"), (data["split"], "held_out"))
    errors = [(said, *(getattr(data["errors"][name], e) for e in ("median", "p90"))) for said, name in names]
    yield Table(
        f"{data['engine']} on {data['machine']}",
        ("error of time", *map(Column, ("median", "p90"), (".1%",) * 2)),
        errors,
    )
    yield ", ".join(f"{name} {value:.4g}" for name, value in data["constants"].items())
    yield "saved " + ", ".join(data["saved"])


def operator(data: Mapping[str, Any]) -> Iterator[Block]:
    """One operator: measured, predicted, the difference, and the share of the roof."""
    measured, predicted, rates = data["measured"], data["predicted"], data["measured"]["rates"]
    quiet = f"median of {measured['repeats']}, {measured['quiet_repeats']} undisturbed, spread {measured['spread']:.1%}"
    rows = [("measured", measured["median_s"], rates.get("bytes_per_s", ""), rates.get("flops_per_s", ""), quiet)]
    if usual := data.get("usual"):
        times = measured["median_s"] / usual["median_s"]
        said = f"the kernel asked for takes {times:.2f} times as long"
        rows.append(("usual kernel", usual["median_s"], usual["rates"].get("bytes_per_s", ""), "", said))
    if predicted:
        off = predicted["expected_s"] / (usual or measured)["median_s"] - 1.0
        span = f"{metric(predicted['low90_s'], 's')} to {metric(predicted['high90_s'], 's')}"
        note = f"{_off(off)} off, 90 % {span}, {predicted['bound']} bound, {predicted['tier']}"
        rows.append(("predicted", predicted["expected_s"], "", "", note))
        rows.append(("speed of light", predicted["light_s"], "", "", predicted["machine"]))
    columns = ("", _time("time"), Column("bytes/s", unit="B/s"), Column("FLOP/s", unit="FLOP/s"), "note")
    yield Table(measured["name"], columns, rows)
    check = measured["check"]
    yield f"checked against {check['reference']}: {check['error']:.2g} off, {check['tolerance']:.2g} allowed"
    if "roof" in data:
        yield f"{data['roof']['bandwidth_share']:.0%} of the memory bandwidth"
    if not predicted:
        yield "no prediction: run `waferline measure machine` first, or name a machine with --on"
    yield from _notes(measured["conditions"]["warnings"])


def written(data: Mapping[str, Any]) -> Iterator[Block]:
    """A file of rows."""
    yield f"{data['output']}: {data['rows']} rows"
    if data.get("skipped"):
        yield f"note: {data['skipped']} lines of the store are no records", "alarm"


def kept(figures: Sequence[Measured]) -> Iterator[Block]:
    """Every figure of a store beside what predict said of it."""
    rows = [
        (f.name, f.started[:10], f.quantity, _figure(f.measured, f.unit), f.spread,
         _figure(f.predicted, f.unit), _ends(f), f.off, "; ".join(f.warnings))
        for f in figures
    ]  # fmt: skip
    numbers = (*right("measured"), _spread(), *right("predicted", "90 % interval"), Column("off", _off))
    yield Table("Measured and kept, newest first", ("what ran", "day", "quantity", *numbers, "disturbed by"), rows)
    if any(f.predicted is None for f in figures):
        yield "Without a prediction: no machine was known then: waferline measure machine measures this one.", "note"


def _ends(f: Measured) -> str:
    known = f.low90 is not None and f.high90 is not None
    return f"{_figure(f.low90, f.unit)} – {_figure(f.high90, f.unit)}" if known else ""


def _figure(value: float | None, unit: str) -> str:
    return MISSING if value is None else metric(value, unit) if unit else f"{value:,.4g}"


def resident(data: Mapping[str, Any]) -> Iterator[Block]:
    """Rows per second of each shape beside the target, and what that is in FLOP/s."""
    rows = []
    for r in data["results"]:
        record, shape = r["record"], r["shape"]
        size = f"{shape['n']} x {shape['p']}"
        rates = (r["measured_rows_per_s"], r["measured_flops_per_s"], r["fraction"])
        parity = record["check"]["error"]
        rows.append((shape["label"], size, record["median_s"], *rates, r["verdict"], parity, r["spread"]))
    rates_of = (Column("rows/s", ",.0f"), Column("FLOP/s", unit="FLOP/s"), Column("of target", ".2f"))
    columns = (
        "shape",
        Column("n x p", left=False),
        _time("time"),
        *rates_of,
        "verdict",
        Column("parity", ".1e"),
        _spread(),
    )
    yield Table(f"device-resident normal equations on {data['device']}, fp64", columns, rows)
    yield from _notes(w for r in data["results"] for w in r["record"]["conditions"]["warnings"])


_SERVER_TIMES = (("TTFT", "ttft_s"), ("ITL", "itl_s"), ("TPOT", "tpot_s"), ("latency", "latency_s"))


def server(data: Mapping[str, Any]) -> Iterator[Block]:
    """Every load: percentiles, throughput, errors, and what predict says."""
    rows: list[tuple[Any, ...]] = []
    for record in data["results"]:
        s, p = record["summary"], record.get("predicted")
        errors = ", ".join(f"{n} {kind}" for kind, n in s["errors"].items()) or "none"
        rows.append(
            (record["name"], *(_span(s.get(key)) for _, key in _SERVER_TIMES), s["output_tokens_per_s"], errors)
        )
        if p:
            times = (metric(p[key], "s") if key in p else "" for _, key in _SERVER_TIMES)
            rows.append(("  predicted", *times, p["output_tokens_per_s"], ""))
    spans = [Column(f"{name} p50 / p99", left=False) for name, _ in _SERVER_TIMES]
    yield Table("", ("load", *spans, Column("tokens/s", ".4g"), "errors"), rows)
    yield from _notes(w for r in data["results"] for w in r["conditions"]["warnings"])
    counted = {c for r in data["results"] for c in r["summary"]["counted_by"]}
    yield "tokens counted by " + (", ".join(sorted(counted)) or "nobody")


def _span(spread: Mapping[str, float] | None) -> str:
    return f"{metric(spread['p50'], 's')} / {metric(spread['p99'], 's')}" if spread else ""


def model(data: Mapping[str, Any]) -> Iterator[Block]:
    """Tokens per second of both phases beside predicted, then the operators of each."""
    predicted, phases = data["predicted"], ("prefill", "decode")
    rows = []
    for phase, unit, tokens in (("prefill", "prompt_tokens", data["prompt"]), ("decode", "output_tokens", 1)):
        m = data[phase]
        told: tuple[Any, ...] = ()
        if predicted:
            expected_s = predicted[phase]["expected_s"]
            told = (tokens / expected_s, expected_s / m["median_s"] - 1)
        rows.append((phase, m["median_s"], m["rates"][unit + "_per_s"], m["spread"], *told))
    more = (Column("predicted tokens/s", ".4g"), Column("off", _off)) if predicted else ()
    title = f"{data['model']}: {data['prompt']} prompt and {data['output']} output tokens, {data['threads']} threads"
    yield Table(title, ("phase", _time("measured"), Column("tokens/s", ".4g"), _spread(), *more), rows)
    names = dict.fromkeys(name for phase in phases for name in data[f"{phase}_operators_s"])
    sides = [data[f"{phase}_operators_s"] for phase in phases]
    columns = [_time("prefill"), _time("decode")]
    if predicted:
        sides = [
            side for phase, own in zip(phases, sides, strict=True) for side in (own, predicted[phase]["operators_s"])
        ]
        columns = [_time("prefill"), _time("predicted"), _time("decode"), _time("predicted")]
    yield Table("", ("operator", *columns), [(n, *(side.get(n, "") for side in sides)) for n in names])
    yield from _notes(w for phase in phases for w in data[phase]["conditions"]["warnings"])


def page(known: Known, rows: Sequence[Beside]) -> str:
    """Predicted beside measured as a Markdown page, with the machine, the date, and every disturbance that was noticed."""
    first, device = rows[0].measured, known.device
    host = first.machine
    errors = sorted(abs(row.off) for row in rows)
    inside = sum(e <= TARGET for e in errors)
    versions = ", ".join(f"{name} {version}" for name, version in host["versions"].items())
    peaks = ", ".join(f"{fmt} {metric(peak, 'FLOP/s')}" for fmt, peak in device.peak_flops.items())
    table = Table(
        "",
        ("operator", _time("measured"), Column("spread", ".0%"), _time("predicted"), Column("off", _off),
         _time("speed of light"), "constants"),
        [
            (r.measured.name, r.measured.median_s, r.measured.spread, p["expected_s"], r.off, p["light_s"], p["tier"])
            for r in rows
            if (p := r.predicted)
        ],
    )  # fmt: skip
    warned = sorted({w for row in rows for w in row.measured.conditions.warnings})
    parts = [
        "# Predicted and measured on one machine",
        f"{host['cpu']}, {host['cores']} cores, {host['isa']}, {host['system']}; {versions}. {first.started}.\n"
        f"Roofs: memory {metric(device.bandwidth_bytes_per_s, 'B/s')}, {peaks}. Written by `waferline measure page` after "
        "`waferline measure machine`; no constant was fitted to these shapes.",
        f"Median error {errors[len(errors) // 2]:.1%}, worst {errors[-1]:.1%}, {inside} of {len(rows)} within {TARGET:.0%}.",
        table.markdown(),
        *(["\n".join(f"- {w}" for w in warned)] if warned else []),
    ]
    return "\n\n".join(parts) + "\n"
