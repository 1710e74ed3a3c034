"""Operator tables of other projects: test rows for measured machines, and the only rows there are for some others.

vidur (MIT, Microsoft), LLMServingSim (MIT, CASYS Lab at KAIST), LLMCompass (BSD-3, Princeton), InferSim (Apache-2.0, Alibaba).
Labs disagree by 10-15 % on the same machine; none gives clocks or driver.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from benchmarks.fit.tables import SHARED, Problem, facts, link

MEASURED = SHARED / "measured"
# hidden, feed-forward (dense or one expert), heads, kv heads, head dim, vocabulary
SHAPES = {
    "meta-llama/Llama-3.1-8B": (4096, 14336, 32, 8, 128, 128256),
    "meta-llama/Llama-3.1-70B": (8192, 28672, 64, 8, 128, 128256),
    "mistralai/Mixtral-8x7B-v0.1": (4096, 14336, 32, 8, 128, 32000),
    "microsoft/Phi-mini-MoE-instruct": (4096, 960, 32, 8, 128, 32064),
    "Qwen/Qwen3-32B": (5120, 25600, 64, 8, 128, 151936),
    "Qwen/Qwen3-30B-A3B-Instruct-2507": (2048, 768, 32, 4, 128, 151936),
}
MACHINE = {
    "RTX4090": "rtx4090",
    "RTXPRO6000": "rtxpro6000",
    "A6000": "a6000",
    "RTX3090": "rtx3090",
    "H100": "h100",
    "TPU-v6e-1": "tpuv6e",
    "A100": "a100",
    "MI210": "mi210",
    "a100": "a100",
    "h100": "h100",
    "a40": "a40",
}
BF16_BYTES = 2.0


def _gemm_sites(model: str, tp: int) -> dict[str, tuple[float, float]]:
    """Layer -> (n, k) on one rank."""
    hidden, ffn, h, hk, dim, _ = SHAPES[model]
    q, kv = h * dim / tp, hk * dim / tp
    return {
        "qkv_proj": (q + 2 * kv, hidden),
        "q_proj": (q, hidden),
        "k_proj": (kv, hidden),
        "v_proj": (kv, hidden),
        "o_proj": (hidden, q),
        "gate_up_proj": (2 * ffn / tp, hidden),
        "gate_proj": (ffn / tp, hidden),
        "up_proj": (ffn / tp, hidden),
        "down_proj": (hidden, ffn / tp),
        "expert.w1": (ffn / tp, hidden),
        "expert.w3": (ffn / tp, hidden),
        "expert.w2": (hidden, ffn / tp),
    }


def _streams(model: str, tp: int) -> dict[str, float]:
    """Layer -> bytes moved a token on one rank, of kernels that engines fuse: norm with residual, SwiGLU, rotary embedding."""
    hidden, ffn, h, hk, dim, _ = SHAPES[model]
    return {
        "layernorm": 4 * hidden * BF16_BYTES,
        "final_layernorm": 4 * hidden * BF16_BYTES,
        "act_fn": 3 * ffn / tp * BF16_BYTES,
        "rotary_emb": 2 * (h + hk) * dim / tp * BF16_BYTES,
        "embedding": 2 * hidden * BF16_BYTES,
    }


def servingsim() -> pd.DataFrame:
    """Both profiler generations as (machine, lab, model, tp, layer, tokens, t_s)."""
    new = pd.read_csv(MEASURED / "servingsim_dense.csv").assign(lab="LLMServingSim, vLLM 0.19")
    old = pd.read_csv(MEASURED / "servingsim_v0_layers.csv").assign(lab="LLMServingSim, first profiler")
    frame = pd.concat([new, old], ignore_index=True)
    frame = frame[frame.model.isin(list(SHAPES)) & (frame.time_us > 0.1)]
    return frame.assign(machine=frame.gpu.map(MACHINE), t_s=frame.time_us * 1e-6)


def _gemm_problem(
    machine: str, lab: str, fmt: str, arithmetic: str, bits: float, rows: pd.DataFrame, quantised: bool = True
) -> Problem:
    """rows: m, n, k, t_s, group. `quantised`: activations are quantised inside the measured time."""
    d = facts(machine, arithmetic)
    m, n, k = (rows[c].to_numpy(float) for c in "mnk")
    x = {
        "m": m,
        "n": n,
        "k": k,
        "light_compute_s": 2 * m * n * k / d.peak_flops,
        "light_memory_s": (m * k * bits / 8 + n * k * bits / 8 + m * n * BF16_BYTES) / d.bandwidth_bytes_per_s,
    }
    fixed = {"weight_bits": bits, "activation_bits": bits if quantised else 16.0, "cache_warm": True}
    return Problem("gemm", machine, fmt, lab, d, None, x, fixed, rows.t_s.to_numpy(), pd.factorize(rows.group)[0], rows)


def gemm() -> Iterator[Problem]:
    """Groups are models where a machine has several, else (n, k) sites."""
    for (machine, lab), part in servingsim().groupby(["machine", "lab"]):
        sites = [_gemm_sites(r.model, r.tp).get(r.layer) for r in part.itertuples()]
        rows = part.assign(site=sites)[[s is not None for s in sites]]
        rows = rows.assign(m=rows.tokens, n=[s[0] for s in rows.site], k=[s[1] for s in rows.site])
        rows = rows.assign(group=rows.model if rows.model.nunique() > 1 else rows.site.astype(str))
        yield _gemm_problem(machine, lab, "bf16", "bf16", 16.0, rows)
    for machine, part in _vidur_gemm().groupby("machine"):
        yield _gemm_problem(machine, "vidur", "bf16", "bf16", 16.0, part)
    compass = pd.read_csv(MEASURED / "llmcompass_ops.csv").query("op == 'matmul_fp16'")
    for gpu, part in compass.groupby("gpu"):
        rows = part.assign(
            m=part.M,
            n=part.N,
            k=part.K,
            t_s=part.latency_ms * 1e-3,
            group=part.M.astype(str) + "x" + part.K.astype(str),
        )
        yield _gemm_problem(MACHINE[gpu], "LLMCompass", "bf16", "bf16", 16.0, rows)
    infersim = pd.read_csv(MEASURED / "infersim_gemm.csv")
    rows = infersim.assign(t_s=infersim.latency_us * 1e-6, group=infersim.n.astype(str) + "x" + infersim.k.astype(str))
    yield _gemm_problem("h100", "InferSim, H800 DeepGEMM", "fp8_block", "fp8", 8.0, rows, quantised=False)


def _vidur_gemm() -> pd.DataFrame:
    frame = pd.read_csv(MEASURED / "vidur_mlp.csv")
    dim = frame.n_embd / frame.n_head
    up = np.where(frame.gated == 1, 2.0, 1.0) * frame.n_ff / frame.tp
    layers = {
        "attn_pre_proj_ms": ((frame.n_head + 2 * frame.n_kv_head) * dim / frame.tp, frame.n_embd),
        "attn_post_proj_ms": (frame.n_embd, frame.n_embd / frame.tp),
        "mlp_up_proj_ms": (up, frame.n_embd),
        "mlp_down_proj_ms": (frame.n_embd, frame.n_ff / frame.tp),
    }
    parts = [
        pd.DataFrame(
            {"machine": frame.gpu, "m": frame.num_tokens, "n": n, "k": k, "t_s": frame[c] * 1e-3, "group": frame.model}
        )
        for c, (n, k) in layers.items()
    ]
    return pd.concat(parts, ignore_index=True).dropna()


def streaming() -> Iterator[Problem]:
    """Groups are (model, layer). Kernels that the profiler ran unfused are left out (norms of the first profiler and of vidur)."""
    frame = servingsim()
    fused = frame[(frame.lab == "LLMServingSim, vLLM 0.19") | ((frame.layer == "act_fn") & (frame.gpu != "TPU-v6e-1"))]
    parts = [_streams(r.model, r.tp).get(r.layer) for r in fused.itertuples()]
    rows = fused.assign(per_token=parts).dropna(subset="per_token")
    rows = rows.assign(n_bytes=rows.per_token.astype(float) * rows.tokens, group=rows.model + rows.layer)[
        ["machine", "n_bytes", "t_s", "group"]
    ]
    vidur = pd.read_csv(MEASURED / "vidur_mlp.csv")
    width = np.where(vidur.gated == 1, 3.0, 2.0) * vidur.n_ff / vidur.tp * BF16_BYTES
    add = pd.DataFrame(
        {
            "machine": vidur.gpu,
            "n_bytes": vidur.num_tokens * 3 * vidur.n_embd * BF16_BYTES,
            "t_s": vidur.add_ms * 1e-3,
            "group": vidur.model + "add",
        }
    )
    act = pd.DataFrame(
        {
            "machine": vidur.gpu,
            "n_bytes": vidur.num_tokens * width,
            "t_s": vidur.mlp_act_ms * 1e-3,
            "group": vidur.model + "act",
        }
    )
    every = pd.concat([rows, add, act], ignore_index=True).dropna()
    for machine, part in every[every.t_s > 0].groupby("machine"):
        d = facts(machine, "bf16")
        n_bytes = part.n_bytes.to_numpy()
        x = {"n_bytes": n_bytes, "light_memory_s": n_bytes / d.bandwidth_bytes_per_s}
        yield Problem(
            "streaming",
            machine,
            "bf16",
            "default",
            d,
            None,
            x,
            {},
            part.t_s.to_numpy(),
            pd.factorize(part.group)[0],
            part,
        )


def p2p() -> Iterator[Problem]:
    """Point to point inside a box (vidur); its H100 pairwise table is a copy of the A100's and left out."""
    frame = pd.read_csv(MEASURED / "vidur_send_recv.csv").query("devices_per_node == 2")
    for topology, machine in (("a100_dgx", "a100"), ("h100_dgx", "h100")):
        part = frame[frame.topology == topology]
        x = {"n_bytes": part.size_bytes.to_numpy(float)}
        yield Problem(
            "p2p",
            machine,
            "nvlink",
            "nccl",
            None,
            link(machine),
            x,
            {},
            part.median_ms.to_numpy() * 1e-3,
            np.arange(len(part)),
            part,
        )


def decode_attention() -> Iterator[Problem]:
    """vLLM 0.19 decode batches without a prefill chunk (LLMServingSim). Groups are (model, tensor parallelism)."""
    frame = pd.read_csv(MEASURED / "servingsim_attention.csv").query("prefill_chunk == 0 and n_decode > 0")
    for gpu, part in frame[frame.model.isin(list(SHAPES))].groupby("gpu"):
        d = facts(MACHINE[gpu], "bf16")
        h, hk, dim = (np.array([SHAPES[m][i] for m in part.model], dtype=float) for i in (2, 3, 4))
        h, hk = h / part.tp.to_numpy(), hk / part.tp.to_numpy()
        b, length = part.n_decode.to_numpy(float), part.kv_decode.to_numpy(float)
        n_bytes = b * dim * (2 * hk * length + 2 * h) * BF16_BYTES
        x = {
            "batch": b,
            "kv_len": length,
            "heads": h,
            "kv_heads": hk,
            "head_dim": dim,
            "light_compute_s": 4 * b * h * dim * length / d.peak_flops,
            "light_memory_s": n_bytes / d.bandwidth_bytes_per_s,
        }
        group = pd.factorize(part.model + part.tp.astype(str))[0]
        fixed = {"kv_bytes_per_element": BF16_BYTES}
        lab = "LLMServingSim, vLLM 0.19"
        yield Problem(
            "decode_attention",
            MACHINE[gpu],
            "bf16",
            lab,
            d,
            None,
            x,
            fixed,
            part.time_us.to_numpy() * 1e-6,
            group,
            part,
        )
