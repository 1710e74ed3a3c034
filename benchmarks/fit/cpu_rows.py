"""Published runs of language models on CPUs, with the operators of their passes, for `cpu`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.fit.engine_parts import bare
from waferline.arrays import FloatArray
from waferline.errors import WaferlineError
from waferline.evidence import ask_serving as door
from waferline.evidence.check import prepared
from waferline.evidence.names import model_spec
from waferline.evidence.request import Request
from waferline.evidence.rows import Row, read_rows
from waferline.evidence.scenario import request_of
from waferline.formats import get_format
from waferline.machines.device import Device
from waferline.predict.cpu_kernels import by_bit, core_of, looked_up, unpacked, vector_flops
from waferline.predict.engine import family_of, get_engine
from waferline.predict.serving_case import ServingCase

_FILES = ("edge-inference", "papers", "llm-inference", "accelerators-inference")
_NO_ONE_ENGINE = (
    "static",
    "none",
    "waferline",
    "sglang",
)  # SGLang spreads ranks over nodes of memory: a fit of its own


@dataclass(frozen=True)
class CpuRows:
    """Rows, then the operators of all their passes (`of`: which row). seconds: what the metric says a pass or request took."""

    seconds: FloatArray
    prefill: npt.NDArray[np.bool_]
    steps: FloatArray  # decode steps that the seconds hold
    passes: FloatArray  # prefills that they hold
    engine: npt.NDArray[np.str_]
    model: npt.NDArray[np.str_]
    machine: npt.NDArray[np.str_]
    source: npt.NDArray[np.str_]
    sweep: npt.NDArray[np.str_]
    device: list[Device]
    of: npt.NDArray[np.int64]
    decode: npt.NDArray[np.bool_]
    kind: list[str]
    named: list[dict[str, str]]  # effects of an operator that is a matrix product
    count: FloatArray
    flops: FloatArray
    row_flops: FloatArray
    moved_bytes: FloatArray
    expected_s: FloatArray
    light_s: FloatArray
    vector_flops_per_s: FloatArray

    def total(self, each: FloatArray, step_s: float, sync_s: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(seconds, share of every operator's second in its row's log, the same of step and sync time)."""
        n = len(self.seconds)
        times = np.where(self.decode, self.steps[self.of], self.passes[self.of])
        units = np.array([d.units for d in self.device], dtype=np.float64)
        synced = np.bincount(self.of, times * self.count, minlength=n) * units
        both = self.steps + self.passes
        seconds = np.bincount(self.of, times * each, minlength=n) + step_s * both + sync_s * synced
        return seconds, times / seconds[self.of], np.array([both / seconds, synced / seconds])


def cpu_rows(folder: Path) -> CpuRows:
    rows = [r for name in _FILES for r in read_rows(folder / f"{name}.csv.gz")]
    found = [f for f in map(_row, prepared(rows)) if f is not None]
    columns: dict[str, list[Any]] = {f.name: [] for f in fields(CpuRows)}
    for of, (facts, operators) in enumerate(found):
        for name, value in facts.items():
            columns[name].append(value)
        for operator in operators:
            columns["of"].append(of)
            for name, value in operator.items():
                columns[name].append(value)
    plain = ("device", "kind", "named")
    return CpuRows(**{name: values if name in plain else np.array(values) for name, values in columns.items()})


def _row(row: Row) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    q = request_of(row)
    if not isinstance(q, Request) or q.guesses or q.door != "serving" or row.suspect or q.load == "full":
        return None
    device = q.machine
    if device.kind != "cpu" or q.engine in _NO_ONE_ENGINE:
        return None
    outputs = max(q.output_tokens, 1.0)
    b, inputs, value = q.batch, q.input_tokens, row.value
    steps, passes, seconds = {
        "ttft_s": (0.0, 1.0, value),
        "prompt_tokens_per_s": (0.0, 1.0, b * inputs / value),
        "tpot_s": (1.0, 0.0, value),
        "decoded_tokens_per_s": (1.0, 0.0, b / value),
        "latency_s": (outputs - 1.0, 1.0, value),
        "output_tokens_per_s": (outputs - 1.0, 1.0, b * outputs / value),
        "total_tokens_per_s": (outputs - 1.0, 1.0, b * (inputs + outputs) / value),
    }[q.answer]
    try:
        operators = [o for d, n in ((True, steps), (False, passes)) if n for o in _operators(q, device, decode=d)]
    except WaferlineError:
        return None
    source = row.source.split(" (")[0]
    facts = {
        "seconds": seconds,
        "prefill": not steps,
        "steps": steps,
        "passes": passes,
        "engine": q.engine,
        "model": q.model,
        "machine": device.name,
        "source": source,
        "sweep": "|".join((source, q.hardware, q.model, row.weight_format, q.engine, q.answer)),
        "device": device,
    }
    return facts, operators


def _operators(q: Request, device: Device, *, decode: bool) -> list[dict[str, Any]]:
    engine = replace(bare(get_engine(q.engine)), machines=family_of(device))  # as on a CPU without kernels of its own
    case = ServingCase(model_spec(q.model), device, engine, q.kv)
    sizes = door.sizes_of([q])
    a = {
        "batch_size": np.maximum(sizes["batch"], 1.0),
        "seq_len": np.ceil(sizes["input_tokens"]),
        "output_len": np.ceil(sizes["output_tokens"]),
        **{k: sizes[k] for k in ("tp", "pp", "ep", "dp")},
    }
    phase = (case.decode if decode else case.prefill)(q.precision, a, a["batch_size"], keep=True)
    out = []
    for t in phase.timed:
        op = t.operator
        flops, weight_bytes = float(np.max(op.flops)), float(np.max(op.weight_bytes))
        unpacking = unpacked(op.weights, bitwise=by_bit(q.engine))
        named = {"engines": q.engine, **unpacking, **core_of(device), "machines": device.name}
        named = named if op.kind in ("gemm", "moe") else {}
        if op.kind == "moe":
            named["experts"] = "all"
        out.append(
            {
                "decode": decode,
                "kind": op.kind,
                "named": named,
                "count": float(np.max(op.count)),
                "flops": flops,
                "row_flops": min(16.0 * weight_bytes / get_format(op.weights).bits, flops),
                "moved_bytes": float(np.max(op.bytes)),
                "expected_s": float(np.max(t.expected_s)),
                "light_s": float(np.max(t.light_s)),
                "vector_flops_per_s": vector_flops(device)
                * device.units
                * device.clock_hz
                * looked_up(op.weights, bitwise=by_bit(q.engine)),
            }
        )
    return out
