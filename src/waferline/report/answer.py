"""A prediction: memory, speed beside its interval and the speed of light, the reasons, and the notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from waferline.predict.explain import HEADER, explain_rows
from waferline.predict.result import Result
from waferline.predict.run import Answer
from waferline.report.table import Block, Column, Table, right
from waferline.text import MISSING, dollars, metric, percent, short
from waferline.units import SUFFIXES, unit_of

MEMORY = (
    ("weights", "device_weights_bytes"),
    ("KV cache", "device_kv_bytes"),
    ("activations", "device_activation_bytes"),
    ("workspace", "device_workspace_bytes"),
    ("total", "device_memory_bytes"),
    ("usable by the engine", "usable_bytes"),
    ("capacity", "capacity_bytes"),
)
# What fits all devices together.
ROOM = (("largest batch", "max_batch_size"), ("tokens in the cache, at most", "kv_capacity_tokens"))
HOST_MEMORY = (
    ("weights", "host_weights_bytes"),
    ("KV cache", "host_kv_bytes"),
    ("total", "host_memory_bytes"),
    ("capacity", "host_capacity_bytes"),
)
# What a result may have, in the order of the table; every kind of answer has some of it.
SPEED = (
    ("TTFT", "ttft_s"),
    ("TPOT (ITL)", "itl_s"),
    ("tokens/s per user", "user_tokens_per_s"),
    ("tokens/s in total", "throughput_tokens_per_s"),
    ("whole request", "request_s"),
    ("TTFT under load", "loaded_ttft_s"),
    ("TPOT under load", "loaded_tpot_s"),
    ("tokens/s under load", "loaded_throughput_tokens_per_s"),
    ("sequences running", "running_sequences"),
    ("latency", "latency_s"),
    ("step time", "step_time_s"),
    ("samples/s", "samples_per_s"),
    ("tokens/s", "total_tokens_per_s"),
    ("energy per token", "energy_j_per_token"),
    ("energy per sample", "energy_j_per_sample"),
    ("cost per million tokens", "cost_usd_per_mtoken"),
)
PASS = (
    ("arithmetic intensity", "intensity_flops_per_byte"),
    ("ridge point", "ridge_flops_per_byte"),
    ("weights", "weights_bytes"),
    ("activations alive at once", "activation_bytes"),
    ("memory", "device_memory_bytes"),
    ("power", "power_w"),
    ("bottleneck", "bottleneck"),
    ("MFU", "mfu"),
    ("MBU", "mbu"),
    ("HFU", "hfu"),
)
WHY: tuple[Column | str, ...] = (
    "phase",
    "bottleneck",
    Column("FLOP/byte", short),
    Column("ridge point", short),
    Column("MFU", percent),
    Column("MBU", percent),
    Column("power", unit="W"),
    *right("90 %"),
)
OPERATORS: tuple[Column | str, ...] = (HEADER[0], *right(*HEADER[1:-2]), *HEADER[-2:])
_SYMBOLS = {"second": "s", "byte": "B", "joule": "J", "joule/token": "J", "joule/sample": "J", "watt": "W",
            "cycle": "cycles", "flop/byte": "FLOP/B", "flop": "FLOP", "byte/s": "B/s", "hertz": "Hz"}  # fmt: skip


def value(result: Result, name: str) -> float:
    """The first scenario's value of a field; nan when the result has no such field."""
    return float(np.asarray(result[name]).flat[0]) if name in result else float("nan")


def answer_report(answer: Answer, *, explain: bool = False) -> Iterator[Block]:
    """Everything `waferline predict` says of one scenario."""
    result, about = answer.result, answer.result.about
    devices = value(result, "devices")
    yield f"{answer.model.title} on {answer.device.title}" + (f" × {devices:.0f}" if devices > 1 else ""), "title"
    yield f"{about.get('precision', '')}; engine {about.get('engine', '–')}; {result.how}", "note"
    yield ""
    if not answer.fits:
        yield from _misfit(answer)
    yield from _KINDS.get(answer.kind, _wafer)(result)
    if explain:
        for phase in dict.fromkeys(row.phase for row in result.operators):
            yield Table(f"{phase}, operator by operator", OPERATORS, list(explain_rows(result, phase)))
    for note in (*result.notes, *answer.notes):
        yield f"note: {note}", "note"
    if result.not_modelled:
        yield "not modelled: " + "; ".join(result.not_modelled), "note"


# What a microcontroller keeps apart: what it is and where, bytes needed and there.
_SPLIT = (
    ("weights for flash", "weights_bytes", "flash_bytes"),
    ("activations for SRAM", "activation_bytes", "sram_bytes"),
)


def _misfit(answer: Answer) -> Iterator[Block]:
    need = value(answer.result, "device_memory_bytes")
    have = value(answer.result, "usable_bytes" if "usable_bytes" in answer.result else "capacity_bytes")
    sizes = f": it needs {metric(need, 'B')} and has {metric(have, 'B')}" if have < need else ""
    parts = [(w, value(answer.result, a), value(answer.result, b)) for w, a, b in _SPLIT if b in answer.result]
    too_much = [f"{metric(n, 'B')} of {what} of {metric(h, 'B')}" for what, n, h in parts if n > h]
    sizes = f": {' and '.join(too_much)}" if too_much else sizes
    yield f"Does not fit {answer.device.name}{sizes}.", "alarm"
    if answer.remedies:
        yield "It would fit with " + ", or ".join(f"{r.change} ({r.option})" for r in answer.remedies) + "."
    yield "The times below suppose that it fitted.", "note"
    yield ""


def _serve(result: Result) -> Iterator[Block]:
    rows = [(name, value(result, key)) for name, key in MEMORY if key in result]
    shown = [(name, metric(size, "B")) for name, size in rows]
    shown += [("used", percent(value(result, "memory_utilization")))]
    shown += [(name, f"{value(result, key):,.0f}") for name, key in ROOM]
    yield Table("Memory of each device", ("", *right("per device")), shown)
    yield f"{result.about['memory_rule']}.", "note"
    yield ""
    if "host_memory_bytes" in result:
        beside = [(name, metric(value(result, key), "B")) for name, key in HOST_MEMORY]
        yield Table("Memory of the host", ("", *right("of a replica")), beside)
    yield _speed(result, SPEED)
    phases = [(phase, _phase(result, phase)) for phase in ("prefill", "decode")]
    yield Table("Why", WHY, [(phase, *figures) for phase, figures in phases])


def _phase(result: Result, phase: str) -> tuple[Any, ...]:
    fields = ("intensity_flops_per_byte", "ridge_flops_per_byte", "mfu", "mbu", "power_w")
    ends = [
        value(result, f"{phase}_power_{end}_w") for end in ("low90", "high90") if f"{phase}_power_{end}_w" in result
    ]
    figures = [value(result, f"{phase}_{field}") for field in fields]
    return first(result, f"{phase}_bottleneck"), *figures, " – ".join(metric(end, "W") for end in ends)


def _one_pass(result: Result) -> Iterator[Block]:
    yield _speed(result, (*SPEED, *PASS))


def _wafer(result: Result) -> Iterator[Block]:
    """The figures that every answer has, then all that only this model knows."""
    yield _speed(result, (*SPEED, *PASS))
    shown = {key for _, key in (*SPEED, *PASS)} | {"feasible", "tpot_s", "output_tokens_per_s"}
    rest = [key for key in result.values if key not in shown and not _beside(key) and np.size(result[key]) == 1]
    yield Table("Details", ("", *right("value")), [(_spoken(key), written(result, key)) for key in rest])


_KINDS: dict[str, Callable[[Result], Iterator[Block]]] = {"serve": _serve, "infer": _one_pass, "train": _one_pass}


def _speed(result: Result, fields: tuple[tuple[str, str], ...]) -> Table:
    rows = [
        (name, written(result, key), _interval(result, key), written(result, f"light_{key}"))
        for name, key in fields
        if key in result
    ]
    span = "range" if any(key.endswith("_low_s") for key in result.values) else "90 % interval"
    return Table("Speed", ("", *right("expected", span, "speed of light")), rows)


def _beside(key: str) -> bool:
    """Whether a field stands beside another: its bound, or an end of its interval."""
    return key.startswith("light_") or any(f"_{end}_" in key for end in ("low", "high", "low90", "high90"))


def _interval(result: Result, key: str) -> str:
    """From the fast to the slow end, `–` between; of a rate by the interval of the time that it is the inverse of."""
    for suffix, low, high in (
        ("_s", "_low90", "_high90"),
        ("_s", "_low", "_high"),
        ("_j_per_token", "_low90", "_high90"),
    ):
        stem = key.removesuffix(suffix)
        if stem + low + suffix in result:
            unit = unit_of(key)
            fast, slow = (_number(value(result, stem + end + suffix), unit) for end in (low, high))
            return f"{fast} – {slow}" if slow != MISSING else f"from {fast}"
    if key in ("user_tokens_per_s", "throughput_tokens_per_s") and "itl_low90_s" in result:
        tokens = value(result, key) * value(result, "itl_s")
        few, many = (tokens / value(result, f"itl_{end}_s") for end in ("high90", "low90"))
        return f"{_number(few, 'token/s')} – {_number(many, 'token/s')}"
    stem, unit = key.removesuffix("_tokens_per_s"), "token/s"
    if f"{stem}_low90_tokens_per_s" in result:
        few, many = (value(result, f"{stem}_{end}_tokens_per_s") for end in ("low90", "high90"))
        return f"{_number(few, unit)} – {_number(many, unit)}"
    return ""


def first(result: Result, key: str) -> Any:
    """The first scenario's value of a field as it is, `–` when the result has no such field."""
    return np.asarray(result[key]).flat[0] if key in result else "–"


def written(result: Result, key: str) -> str:
    """One field of the first scenario with its unit; empty when there is none."""
    if key not in result:
        return ""
    if key in ("mfu", "mbu", "hfu"):
        return percent(value(result, key))
    item = first(result, key)
    return _number(float(item), unit_of(key)) if isinstance(item, float | np.floating) else str(item)


def _number(item: float, unit: str) -> str:
    if unit == "token/s":
        return f"{metric(item)} tok/s" if item >= 1e4 else f"{item:,.4g} tok/s"
    if unit.startswith("usd"):
        return dollars(item)
    if unit in ("", "sample/s", "1/s", "token"):
        return metric(item) if item >= 1e4 else f"{item:,.4g}"
    return metric(item, _SYMBOLS.get(unit, unit))


def _spoken(name: str) -> str:
    """A field's name in words, without its unit unless that is what it counts."""
    counts = name.endswith("_tokens")
    stem = (
        name if counts else next((name.removesuffix(suffix) for suffix, _ in SUFFIXES if name.endswith(suffix)), name)
    )
    return stem.replace("_", " ")
