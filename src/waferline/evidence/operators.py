"""Tables of measured operators beside predictions: a file for each machine, operator and engine, one time a row.

Files are named `<machine>_<operator>[_<engine>].csv[.gz]`; the columns of each are in `TABLES`. Times are milliseconds. The rows
are lowered to the operators that every prediction is made of and timed by the same door; the machine's sheet comes from the
catalogue. Tables repeat one operator, so that weights and caches that fit are warm: the operators say so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from waferline.arrays import FloatArray
from waferline.catalog.table_file import records_of
from waferline.errors import FileFormatError, UnsupportedError, unknown
from waferline.formats import Precision
from waferline.machines.hardware import load_hardware
from waferline.predict.efficiency import measured_name
from waferline.predict.efficiency.intervals import log_quantiles
from waferline.predict.roofline import machine_for, time_operator
from waferline.workloads.build import Builder, cached_tokens, causal_pairs
from waferline.workloads.feed_forward import experts
from waferline.workloads.mixers import Pass, latent_attention
from waferline.workloads.operator import Operator
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import LatentAttention, MixtureOfExperts

Columns = Mapping[str, Any]  # of one file: numbers as arrays, words as lists
_MS = 1e-3
_ROUNDING = 0.98  # of the bound: tables round to three digits or more
_FORMATS = {
    # as tables name them: weights, activations
    "bfloat16": ("bf16", "bf16"), "float16": ("fp16", "fp16"), "half": ("bf16", "bf16"), "fp8": ("fp8", "fp8"),
    "fp8_block": ("fp8_block", "fp8"), "nvfp4": ("nvfp4", "nvfp4"), "sq": ("int8", "int8"), "int8": ("int8", "int8"),
    "int8_wo": ("int8", "bf16"), "int4_wo": ("int4", "bf16"), "w4a16_mxfp4": ("mxfp4", "bf16"),
    "w4a8_mxfp4_mxfp8": ("mxfp4", "fp8"),
}  # fmt: skip
_COLLECTIVES = {"alltoall": "all_to_all"}


@dataclass(frozen=True, slots=True)
class OperatorFigures:
    """Rows of one machine, operator, format and engine. Errors are |predicted − measured| / measured; bias is the median of
    predicted over measured, minus one; refused: why nothing was predicted, empty where it was."""

    machine: str
    operator: str
    format: str
    engine: str
    tier: str
    rows: int
    median_error: float
    p90_error: float
    bias: float
    coverage: float
    faster_than_light: int
    refused: str = ""


class Table(NamedTuple):
    """How a table is read: columns that must be there, those that split it into operators, and the operator of a part."""

    columns: tuple[str, ...]
    split: tuple[str, ...]
    build: Callable[[Columns], Operator]


def _builder(dtype: str, kv: str = "") -> Builder:
    if dtype not in _FORMATS:
        raise unknown("format of a table", dtype, _FORMATS)
    weights, activations = _FORMATS[dtype]
    return Builder(Precision(weights, activations, _FORMATS[kv][0] if kv in _FORMATS else activations, activations))


def _gemm(c: Columns) -> Operator:
    return _builder(c["dtype"][0]).gemm("gemm", c["m"], c["n"], c["k"])


def _attention(c: Columns) -> Operator:
    window = None if not c["window"][0] else c["window"]
    decode = bool(np.all(c["q_len"] == 1))
    b = _builder(c["attn_dtype"][0], c["kv_dtype"][0])
    reach = c["kv_len"] if window is None else np.minimum(c["kv_len"], window)
    return b.attention(
        "attention",
        "decode_attention" if decode else "prefill_attention",
        batch=c["batch"], q_len=c["q_len"], kv_len=reach,
        pairs=causal_pairs(c["q_len"], c["kv_len"], window), kv_read=cached_tokens(c["q_len"], c["kv_len"], window),
        heads=c["heads"], kv_heads=c["kv_heads"], head_dim=c["head_dim"], v_head_dim=c["head_dim"],
        kv_elements=2 * c["kv_heads"] * c["head_dim"],
    )  # fmt: skip


def _latent(c: Columns) -> Operator:
    decode = bool(np.all(c["q_len"] == 1))
    work = Pass(c["batch"], c["q_len"], c["kv_len"], decode, Parallel())
    shape = LatentAttention(int(c["heads"][0]), None, 512, 128, 64, 128)  # DeepSeek's
    found = latent_attention(_builder("bfloat16", c["kv_dtype"][0]), shape, 0, 1.0, work)
    return next(op for op in found if op.kind.startswith("mla"))


def _experts(c: Columns) -> Operator:
    mix = MixtureOfExperts(
        int(c["experts"][0]), int(c["topk"][0]), int(c["inter"][0]), gated="nongated" not in c["kernel"][0]
    )
    tp, ep = c["tp"][0] * c["ep"][0], c["ep"][0]
    work = Pass(c["tokens"], 1.0, 1.0, False, Parallel(tp=tp, ep=ep))
    found = experts(_builder(c["dtype"][0]), mix, int(c["hidden"][0]), 1.0, work)
    return next(op for op in found if op.kind == "moe")


def _collective(c: Columns) -> Operator:
    operation = c["op"][0] if "op" in c else "all_reduce"
    return _builder("bfloat16").collective(_COLLECTIVES.get(operation, operation), "collective", c["bytes"], c["gpus"])


def _exchange(c: Columns) -> Operator:
    raise UnsupportedError(
        "dispatch and combine are timed as all-to-alls, whose libraries' own kernels no record knows"
    )


_ATTENTION = ("attn_dtype", "kv_dtype", "head_dim", "window", "batch", "q_len", "kv_len", "heads", "kv_heads")
_LATENT = ("dtype", "kv_dtype", "heads", "batch", "q_len", "kv_len")
TABLES: Mapping[str, Table] = {
    "gemm": Table(("dtype", "m", "n", "k"), ("dtype",), _gemm),
    "ctxattn": Table(_ATTENTION, ("attn_dtype", "kv_dtype", "window"), _attention),
    "genattn": Table(_ATTENTION, ("attn_dtype", "kv_dtype", "window"), _attention),
    "ctxmla": Table(_LATENT, ("kv_dtype", "heads"), _latent),
    "genmla": Table(_LATENT, ("kv_dtype", "heads"), _latent),
    "moe": Table(
        ("dtype", "distribution", "tokens", "hidden", "inter", "topk", "experts", "tp", "ep"),
        ("dtype", "kernel", "hidden", "inter", "topk", "experts", "tp", "ep"), _experts,
    ),
    "moe_a2a": Table(("num_tokens",), ("num_tokens",), _exchange),
    "nccl": Table(("op", "gpus", "bytes"), ("op",), _collective),
    "allreduce": Table(("impl", "gpus", "bytes"), ("impl",), _collective),
}  # fmt: skip
_WORDS = frozenset({"dtype", "kernel", "attn_dtype", "kv_dtype", "distribution", "op", "impl", "framework", "version"})
_NAME = re.compile(
    rf"(?P<machine>.+)_(?P<operator>{'|'.join(sorted(TABLES, key=len, reverse=True))})(?:_(?P<engine>[a-z0-9]+))?\.csv(?:\.gz)?"
)


def check_operators(folder: str | Path, progress: Callable[[int], None] | None = None) -> list[OperatorFigures]:
    """Every table of `folder`, part by part. Raises: FileFormatError for a folder without tables or a table out of shape."""
    found: list[OperatorFigures] = []
    for path, name in tables_in(folder):
        found += _check(path, name["machine"], name["operator"], name["engine"] or "vllm")
        if progress is not None:
            progress(1)
    return found


def tables_in(folder: str | Path) -> list[tuple[Path, re.Match[str]]]:
    """The tables of a folder. Raises: FileFormatError where there are none."""
    paths = sorted(Path(folder).glob("*.csv*")) if Path(folder).is_dir() else [Path(folder)]
    found = [(path, match) for path in paths if (match := _NAME.fullmatch(path.name))]
    if not found:
        shape = f"<machine>_<operator>[_<engine>].csv.gz, operators: {', '.join(TABLES)}"
        raise FileFormatError("holds no operator tables", where=str(folder), hint=f"they are named {shape}")
    return found


def _check(path: Path, slug: str, kind: str, engine: str) -> Iterator[OperatorFigures]:
    table = TABLES[kind]
    machine = load_hardware(measured_name(slug))
    scored: dict[tuple[str, str, str], list[tuple[FloatArray, ...]]] = {}
    refused: dict[tuple[str, str, str], int] = {}
    for part in _parts(_read(path, table), table.split):
        fmt, runs = _label(part, kind), _kernels(part, kind, engine)
        measured = part["latency_ms"] * _MS
        try:
            op = _warm(table.build(part))
            timed = time_operator(op, machine_for(machine, _special(part, runs)), resident_bytes=op.bytes)
        except UnsupportedError as refusal:
            refused[fmt, runs, str(refusal)] = refused.get((fmt, runs, str(refusal)), 0) + len(measured)
            continue
        predicted, light = (np.broadcast_to(x, measured.shape) for x in (timed.expected_s, timed.light_s))
        quantiles = log_quantiles(timed.record.residual, predicted)
        ends = (np.broadcast_to(predicted * np.exp(q), measured.shape) for q in (quantiles[0], quantiles[-1]))
        scored.setdefault((fmt, runs, timed.tier), []).append((measured, predicted, light, *ends))
    for (fmt, runs, tier), parts in scored.items():
        yield _figures((machine.name, kind, fmt, runs, tier), *(np.concatenate(x) for x in zip(*parts, strict=True)))
    for (fmt, runs, why), rows in refused.items():
        nothing = (np.nan,) * 4
        yield OperatorFigures(machine.name, kind, fmt, runs, "", rows, *nothing, 0, why)


def _figures(
    names: tuple[str, str, str, str, str],
    measured: FloatArray, predicted: FloatArray, light: FloatArray, low: FloatArray, high: FloatArray,
) -> OperatorFigures:  # fmt: skip
    errors = np.abs(predicted / measured - 1)
    return OperatorFigures(
        *names,
        rows=len(measured),
        median_error=float(np.median(errors)),
        p90_error=float(np.quantile(errors, 0.9)),
        bias=float(np.median(predicted / measured) - 1),
        coverage=float(np.mean((low <= measured) & (measured <= high))),
        faster_than_light=int((measured < _ROUNDING * light).sum()),
    )


def _warm(op: Operator) -> Operator:
    return op if op.kind == "collective" else replace(op, shape={**op.shape, "cache_warm": 1.0})


def _label(part: Columns, kind: str) -> str:
    names = [
        part[key][0]
        for key in ("dtype", "attn_dtype", "kv_dtype", "op")
        if key in part and isinstance(part[key][0], str)
    ]
    return " / ".join(dict.fromkeys(names)) or kind


def _kernels(part: Columns, kind: str, engine: str) -> str:
    """The kernel family of the rows: the file's engine; of collectives the library, of custom ones their own name."""
    if kind == "nccl":
        return "nccl"
    if kind == "allreduce":
        name = str(part["impl"][0]).lower()
        return name.split("_")[0] + ("_eager" if name.endswith("eager") else "")
    return engine


def _special(part: Columns, runs: str) -> str:
    """The name that a kernel of these rows has where it is not the one that its engine runs mostly: `trtllm_latency`.

    Constants that know no such kernel are asked for the engine's.
    """
    kernel = part["kernel"][0].replace("_nongated", "") if "tokens" in part else ""
    return f"{runs}_{kernel.rpartition('_')[2]}" if kernel else runs


def _parts(columns: Columns, split: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Rows that share the values of `split`, one group at a time."""
    keys = list(zip(*(columns[name] for name in split if name in columns), strict=True))
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    for index in groups.values():
        yield {k: v[index] if isinstance(v, np.ndarray) else [v[i] for i in index] for k, v in columns.items()}


def _read(path: Path, table: Table) -> dict[str, Any]:
    rows = [cells for _, cells in records_of(path)]
    if not rows:
        raise FileFormatError("has no rows", where=str(path))
    missing = [name for name in (*table.columns, "latency_ms") if name not in rows[0]]
    if missing:
        raise FileFormatError(f"line 1: missing columns {', '.join(missing)}", where=str(path))
    return {name: _column(name, rows, path) for name in rows[0] if name}


def _column(name: str, rows: list[dict[str, str]], path: Path) -> Any:
    if name in _WORDS or name not in _NUMBERS:
        return [row[name] or "" for row in rows]
    try:
        values = np.array([float(row[name]) for row in rows])
    except (TypeError, ValueError):
        bad = next(i for i, row in enumerate(rows) if not _is_number(row[name]))
        raise FileFormatError(f"line {bad + 2}: {name} is not a number: {rows[bad][name]!r}", where=str(path)) from None
    if not np.all(np.isfinite(values)) or np.any(values < 0) or (name == "latency_ms" and np.any(values == 0)):
        raise FileFormatError(f"{name} must be finite and above 0", where=str(path))
    return values


_NUMBERS = {name for table in TABLES.values() for name in table.columns if name not in _WORDS} | {"latency_ms"}


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and np.isfinite(float(text))
    except ValueError:
        return False
