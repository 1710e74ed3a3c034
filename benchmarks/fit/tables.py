"""Measured operator tables, read as problems: speed-of-light inputs, measured seconds, and the group each row belongs to."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from benchmarks.fit.routing import timed_rank
from waferline.predict.efficiency.device import DeviceFacts, LinkFacts

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("WAFERLINE_SHARED", ROOT.parent / "shared"))
CATALOG = ROOT / "src" / "waferline" / "catalog" / "efficiency"
MACHINES: dict = yaml.safe_load((CATALOG / "machines.yaml").read_text())
SILICON = [slug for slug in MACHINES if (SHARED / "silicon" / f"{slug}_gemm.csv.gz").exists()]

# dtype in the tables -> (compute format, arithmetic, weight bits with scales, activation bits)
GEMM_FORMATS = {
    "bfloat16": ("bf16", "bf16", 16.0, 16.0),
    "fp8": ("fp8", "fp8", 8.0, 8.0),
    "fp8_block": ("fp8_block", "fp8", 8.0, 8.0),
    "nvfp4": ("fp4", "fp4", 4.5, 4.5),
    "sq": ("int8", "int8", 8.0, 8.0),
    "int8_wo": ("w8a16", "bf16", 8.0, 16.0),
    "int4_wo": ("w4a16", "bf16", 4.5, 16.0),
    "w4a16_mxfp4": ("mxfp4a16", "bf16", 4.25, 16.0),
    "w4a8_mxfp4_mxfp8": ("w4a8", "fp8", 4.25, 8.25),
}
FEW_MODELS = 5  # fewer models than folds
MIN_KERNEL_ROWS = 60
UNTUNED_MOE = "modeloptfp8moe_flashinfer_cutlass"
BYTES = {"bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "half": 2.0, "int8": 1.0}


@dataclass(frozen=True)
class Problem:
    """Rows of one machine, operator, format and engine. x: keyword arrays of the model; group: rows kept together in a split."""

    op: str
    machine: str
    fmt: str
    engine: str
    device: DeviceFacts | None
    link: LinkFacts | None
    x: dict
    fixed: dict
    t_s: np.ndarray
    group: np.ndarray
    rows: pd.DataFrame

    def __len__(self) -> int:
        return len(self.t_s)

    def take(self, index: np.ndarray) -> Problem:
        x = {k: v[index] for k, v in self.x.items()}
        return replace(self, x=x, t_s=self.t_s[index], group=self.group[index], rows=self.rows.iloc[index])


def facts(machine: str, arithmetic: str) -> DeviceFacts:
    f = MACHINES[machine]["facts"]
    return DeviceFacts(
        float(f["peak_flops"][arithmetic]),
        float(f["bandwidth_bytes_per_s"]),
        f["units"],
        float(f["l2_bytes"]),
        float(f["clock_hz"]),
        float(f["memory_bytes"]),
        f["kind"],
        f["vendor"],
        f["arch"],
    )


def link(machine: str) -> LinkFacts:
    f = MACHINES[machine]["facts"]["link"]
    return LinkFacts(float(f["bandwidth_bytes_per_s"]), float(f["latency_s"]), f["name"])


@cache
def table(machine: str, kind: str) -> pd.DataFrame | None:
    path = SHARED / "silicon" / f"{machine}_{kind}.csv.gz"
    if not path.exists():
        return None
    frame = pd.read_csv(path)
    return frame.assign(t_s=frame.latency_ms * 1e-3)


def _tables(kind: str):
    for machine in SILICON:
        for engine, suffix in (("vllm", ""), ("trtllm", "_trtllm")):
            frame = table(machine, kind + suffix)
            if frame is not None:
                yield machine, engine, frame


def _columns(frame: pd.DataFrame, *names: str) -> list[np.ndarray]:
    return [frame[n].to_numpy(float) for n in names]


def _group(*columns: np.ndarray) -> np.ndarray:
    return pd.factorize(pd.Series(list(zip(*columns, strict=True))))[0]


def gemm() -> list[Problem]:
    """Groups are (n, k) sites. vLLM's fp8_block tables are host-bound and not in the collection."""
    out = []
    for machine, engine, frame in _tables("gemm"):
        for dtype, part in frame.groupby("dtype"):
            fmt, arithmetic, wb, ab = GEMM_FORMATS[dtype]
            d = facts(machine, arithmetic)
            m, n, k = _columns(part, "m", "n", "k")
            x = {
                "m": m,
                "n": n,
                "k": k,
                "light_compute_s": 2 * m * n * k / d.peak_flops,
                "light_memory_s": (m * k * ab / 8 + n * k * wb / 8 + m * n * 2) / d.bandwidth_bytes_per_s,
            }
            out.append(
                Problem(
                    "gemm",
                    machine,
                    fmt,
                    engine,
                    d,
                    None,
                    x,
                    {"weight_bits": wb, "activation_bits": ab, "cache_warm": True},
                    part.t_s.to_numpy(),
                    _group(n, k),
                    part,
                )
            )
    return out


def attention(phase: str) -> list[Problem]:
    """Groups are (heads, kv_heads, head_dim, window): a model's attention at one tensor-parallel degree."""
    out = []
    for machine, engine, frame in _tables({"decode": "genattn", "prefill": "ctxattn"}[phase]):
        for (dtype, kv), part in frame.groupby(["attn_dtype", "kv_dtype"]):
            fmt = ("bf16" if kv == "bfloat16" else "bf16_kv8") if dtype == "bfloat16" else "fp8"
            d = facts(machine, "bf16" if dtype == "bfloat16" else dtype)
            b, q, kvl, h, hk, dim, window = _columns(
                part, "batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim", "window"
            )
            reach = np.where(window > 0, np.minimum(window, kvl), kvl)
            group = _group(h, hk, dim, window)
            if phase == "decode":
                flops, n_bytes = 4 * b * h * dim * reach, b * (2 * hk * reach * BYTES[kv] + 2 * h * 2.0) * dim
                x = {"batch": b, "kv_len": reach, "heads": h, "kv_heads": hk, "head_dim": dim}
                fixed: dict = {"kv_bytes_per_element": BYTES[kv], "cache_warm": True}
            else:
                pairs = np.where(kvl <= reach, q * kvl - q * (q - 1) / 2, q * reach - reach * (reach - 1) / 2)
                flops, n_bytes = 4 * b * h * dim * pairs, b * dim * (2 * hk * kvl * BYTES[kv] + 2 * h * q * 2.0)
                x, fixed = {"batch": b, "q_len": q, "kv_len": reach, "heads": h, "kv_heads": hk, "head_dim": dim}, {}
            x |= {"light_compute_s": flops / d.peak_flops, "light_memory_s": n_bytes / d.bandwidth_bytes_per_s}
            out.append(
                Problem(f"{phase}_attention", machine, fmt, engine, d, None, x, fixed, part.t_s.to_numpy(), group, part)
            )
    return out


def mla(phase: str) -> list[Problem]:
    """Groups are (heads, batch)."""
    out = []
    for machine, _, frame in _tables({"decode": "genmla", "prefill": "ctxmla"}[phase]):
        for kv, part in frame.groupby("kv_dtype"):
            d = facts(machine, "bf16")
            b, q, kvl, h = _columns(part, "batch", "q_len", "kv_len", "heads")
            if phase == "decode":
                flops, n_bytes = 2 * b * h * kvl * (576 + 512), b * (kvl * 576 * BYTES[kv] + h * (576 + 512) * 2.0)
                x, fixed = {"batch": b, "kv_len": kvl, "heads": h}, {"cache_warm": True}
            else:
                pairs = q * kvl - q * (q - 1) / 2
                flops, n_bytes = 2 * b * h * pairs * (192 + 128), b * h * (q * (192 + 128) + kvl * (192 + 128)) * 2.0
                x, fixed = {"batch": b, "q_len": q, "kv_len": kvl, "heads": h}, {}
            x |= {"light_compute_s": flops / d.peak_flops, "light_memory_s": n_bytes / d.bandwidth_bytes_per_s}
            fmt = "bf16" if kv == "bfloat16" else "bf16_kv8"
            out.append(
                Problem(
                    f"mla_{phase}", machine, fmt, "default", d, None, x, fixed, part.t_s.to_numpy(), _group(h, b), part
                )
            )
    return out


def _kernel_families(part: pd.DataFrame, engine: str) -> dict[str, pd.DataFrame]:
    """The most used kernel goes by the engine's name; others with enough rows by their own, and one that nobody tuned always."""
    counts = part.kernel.value_counts()
    usual = next((kernel for kernel in counts.index if UNTUNED_MOE not in kernel), None)
    return {
        engine if kernel == usual else f"{engine}_{kernel.rsplit('_', 1)[-1]}": part[part.kernel == kernel]
        for kernel, n in counts.items()
        if kernel == usual or n >= MIN_KERNEL_ROWS
    }


def moe() -> list[Problem]:
    """Groups are models (hidden, inter, topk, experts); where fewer than five were measured, models at one tp × ep.

    Per-tensor fp8 through an untuned CUTLASS path of vLLM reaches 0.12-0.14 of peak on every machine: a kernel of its own.
    """
    out = []
    for machine, engine, frame in _tables("moe"):
        frame = frame.assign(
            kernel=frame.kernel.str.replace("_nongated", ""), gated=~frame.kernel.str.contains("nongated")
        )
        for dtype, part in frame.groupby("dtype"):
            for family, rows in _kernel_families(part, engine).items():
                out.append(_moe_problem(machine, family, dtype, rows))
    return out


def _moe_problem(machine: str, engine: str, dtype: str, part: pd.DataFrame) -> Problem:
    fmt, arithmetic, wb, ab = GEMM_FORMATS[dtype]
    d = facts(machine, arithmetic)
    tok, hid, inter, topk, ex, tp, ep = _columns(part, "tokens", "hidden", "inter", "topk", "experts", "tp", "ep")
    routed = [timed_rank(r.distribution, r.tokens, r.topk, r.experts, r.ep) for r in part.itertuples()]
    rows, touched = np.array(routed).T
    even, matrices = tok * topk / ep, np.where(part.gated, 3.0, 2.0)
    weights = matrices * hid * inter / tp
    n_bytes = touched * weights * wb / 8 + even * (2 * hid) * 2.0
    x = {
        "tokens": tok,
        "hidden": hid,
        "inter": inter,
        "topk": topk,
        "experts": ex,
        "tp": tp,
        "ep": ep,
        "light_compute_s": 2 * even * weights / d.peak_flops,
        "light_memory_s": n_bytes / d.bandwidth_bytes_per_s,
        "touched": touched,
        "load": rows / even,
    }
    group = _group(hid, inter, topk, ex)
    if group.max() + 1 < FEW_MODELS:
        group = _group(hid, inter, topk, ex, tp, ep)
    return Problem(
        "moe",
        machine,
        fmt,
        engine,
        d,
        None,
        x,
        {"weight_bits": wb, "activation_bits": ab},
        part.t_s.to_numpy(),
        group,
        part,
    )


def _implementation(name: str) -> str:
    """The engine; its graph-captured kernels go by its own name, eager ones (15-40 us of host time inside) say so."""
    engine = name.lower().split("_")[0]
    return f"{engine}_eager" if name.endswith("eager") else engine


def collectives() -> list[Problem]:
    """Groups are (ranks, size): one size at one rank count is left out at a time."""
    out = []
    ops = {
        "all_reduce": "all_reduce",
        "all_gather": "all_gather",
        "reduce_scatter": "reduce_scatter",
        "alltoall": "all_to_all",
    }
    for machine in SILICON:
        for op, part in table(machine, "nccl").groupby("op"):
            out.append(_collective(machine, ops[op], "nccl", part))
        custom = table(machine, "allreduce")
        for impl, part in () if custom is None else custom.groupby("impl"):
            out.append(_collective(machine, "all_reduce", _implementation(impl), part))
    return out


def _collective(machine: str, op: str, engine: str, part: pd.DataFrame) -> Problem:
    ranks, size = _columns(part, "gpus", "bytes")
    wire, x = link(machine), {"n_bytes": size, "ranks": ranks}
    return Problem(op, machine, wire.kind, engine, None, wire, x, {}, part.t_s.to_numpy(), _group(ranks, size), part)
