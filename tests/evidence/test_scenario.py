"""What is asked for a row, and what is refused: one readable table each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import Row
from waferline.evidence.scenario import request_of

DECODE = Row(
    "r",
    "nvidia-h100-sxm-80gb",
    "llama-3-8b",
    "decode",
    "tpot_s",
    0.01,
    devices=1,
    weight_format="fp16",
    activation_format="fp16",
    kv_format="fp16",
    batch=4,
    input_tokens=128,
    output_tokens=128,
    tp=1,
    pp=1,
    ep=1,
    dp=1,
    engine="vLLM",
    complete=True,
)
SERVE = replace(DECODE, phase="serve", batch=16)
TRAIN = replace(
    DECODE,
    model="llama-3.1-8b",
    phase="train",
    metric="tflops_per_device",
    weight_format="bf16",
    devices=8,
    dp=8,
    batch=64,
    input_tokens=4096,
    engine="torchtitan",
    notes="selective AC; batch: local 2, global 64; parallelism: FSDP8",
)

RANKS = "trap: attention data parallel {} with tp {}, moe_tp {}, moe_ep {}: the device count is not stated"
MLPERF = replace(
    SERVE, source="MLPerf Inference v4.0 (closed division, datacenter)", engine="TensorRT", metric="output_tokens_per_s",
    model="llama-2-70b", devices=8, batch=None, input_tokens=None, output_tokens=None, tp=None, pp=None, ep=None, dp=None,
    weight_format="", activation_format="", kv_format="", notes="batch: MLPerf Offline; input_len: OpenOrca (<=1024)",
)  # fmt: skip
SUBMITTED = replace(
    TRAIN, source="MLPerf Training v5.0 (closed division)", model="llama-2-70b", metric="time_to_train_s", batch=8,
    weight_format="", activation_format="", input_tokens=None, tp=None, pp=None, ep=None, dp=None, engine="NeMo", notes="",
)  # fmt: skip

REFUSED = {
    "claimed": (replace(DECODE, kind="claimed"), "kind"),
    "simulated": (replace(DECODE, kind="simulated"), "kind"),
    "speculative decoding": (replace(DECODE, suspect="speculative decoding"), "speculative decoding"),
    "unknown phase": (replace(DECODE, phase=""), "phase"),
    "convergence not known": (replace(TRAIN, metric="time_to_train_s"), "convergence"),
    "metric of another phase": (replace(DECODE, metric="mfu"), "metric"),
    "disaggregated": (replace(SERVE, notes="mode=disagg"), "disaggregated"),
    "devices not stated": (replace(DECODE, devices=None), "devices"),
    "unknown machine": (replace(DECODE, hardware="replicate-hosted-api-hardware-not-disclosed"), "hardware"),
    "unknown model": (replace(DECODE, model="no-such-model-9z"), "model"),
    "format not stated": (replace(DECODE, weight_format="", engine=""), "format"),
    "unknown format": (replace(DECODE, weight_format="exl9-3.0-bpw"), "format"),
    "batch not stated": (replace(DECODE, batch=None), "batch"),
    "lengths not stated": (
        replace(DECODE, phase="generate", metric="latency_s", input_tokens=None, output_tokens=None),
        "lengths",
    ),
    "no group holds it": (
        replace(DECODE, model="llama-2-70b", hardware="nvidia-rtx-4090", devices=2, tp=None),
        "memory",
    ),
    "ranks that make no count": (replace(DECODE, devices=None, notes=RANKS.format(8, 1, 4, 4)), "devices"),
    "energy of a machine of unknown power": (
        replace(DECODE, model="mlperf-tiny-kws", hardware="stm32u385", metric="energy_j_per_sample", phase="serve"),
        "energy",
    ),
    "energy of served tokens": (replace(SERVE, metric="energy_j_per_sample"), "metric"),
    "parallelism of other devices": (replace(DECODE, devices=8, tp=4), "parallelism"),
    "latency at full load": (replace(SERVE, batch=None, notes="batch: max load (all requests queued)"), "batch"),
    "training without a batch": (replace(TRAIN, batch=None, notes="full AC"), "batch"),
    "host offload": (replace(TRAIN, notes="CPU offload=True"), "offload"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_asked_is_refused_with_a_reason(name: str) -> None:
    row, kind = REFUSED[name]
    refusal = request_of(row)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.kind == kind and len(refusal.reason) > 8


ASKED = {
    "static": (DECODE, {"load": "static", "answer": "tpot_s", "batch": 4, "precision": "w=fp16,a=fp16", "kv": "fp16"}),
    "after an empty prompt": (replace(DECODE, input_tokens=0), {"input_tokens": 1, "output_tokens": 128}),
    "concurrency": (SERVE, {"load": "closed", "batch": 16}),
    "full load": (
        replace(SERVE, metric="output_tokens_per_s", batch=None, notes="batch: max load (infinite request rate)"),
        {"load": "full", "batch": float("inf")},
    ),
    "a burst": (
        replace(SERVE, metric="output_tokens_per_s", batch=None, notes="batch: 100 requests submitted at once"),
        {"load": "full", "batch": 100},
    ),
    "cores counted as tensor-parallel": (
        replace(DECODE, source="AWS Neuron SDK benchmark CSV", hardware="aws-inferentia2", devices=12, tp=24),
        {"tp": 12},
    ),
    "training": (
        TRAIN,
        {"door": "training", "micro_batch": 2, "variant": "half", "sharding": "fsdp", "dp": 8, "batch": 64},
    ),
    "interleaved stages": (
        replace(TRAIN, pp=8, dp=1, batch=64, engine="Megatron-Bridge", notes="GBS 64 MBS 1; TP1 PP8 CP1 VP4 EP1"),
        {"virtual_stages": 4, "micro_batch": 1, "variant": "none", "engine": "megatron-bridge"},
    ),
    "weights that a shared sequence does not share": (
        replace(SUBMITTED, hardware="nvidia-h100-sxm-80gb", devices=64),
        {"tp": 4, "dp": 8, "context_parallel": 2},
    ),
    "chunks of one layer": (
        replace(
            TRAIN,
            source="Llama 3 Herd of Models Table 4",
            pp=8,
            dp=1,
            engine="Meta internal 4D-parallel trainer",
            notes="",
        ),
        {"virtual_stages": 8, "engine": "meta-4d", "variant": "none"},
    ),
    "BERT, submitted": (
        replace(SUBMITTED, hardware="nvidia-h100-sxm-80gb", model="bert", batch=768),
        {"precision": "fp8", "engine": "none", "input_tokens": 256},
    ),
    "what the source says of its runs": (
        replace(
            TRAIN,
            source="stas00/ml-engineering when-to-upgrade-gpus",
            engine="DeepSpeed",
            notes="batch: mbs 1 per GPU; parallelism: ZeRO-3 DP8",
        ),
        {"answer": "causal_tflops_per_device", "variant": "full", "sharding": "fsdp", "engine": "deepspeed"},
    ),
    "sequences per replica": (
        replace(TRAIN, batch=None, notes="full AC; batch: 16 seqs per DP"),
        {"batch": 128, "variant": "full", "sharding": "zero1"},
    ),
    "masked attention not counted": (
        replace(TRAIN, source="NVIDIA Megatron-Bridge performance summary", notes="GBS 64 MBS 2; TP1 PP1 CP1"),
        {"answer": "causal_tflops_per_device", "micro_batch": 2},
    ),
    "context parallel": (
        replace(TRAIN, notes="batch: global 64, micro 1; TP1 CP2", dp=4),
        {"context_parallel": 2, "dp": 4, "batch": 64},
    ),
    "attention over data and experts": (
        replace(
            DECODE, model="mixtral-8x7b", devices=8, tp=None, dp=None, ep=8, notes="parallelism: DP attention + EP8"
        ),
        {"tp": 1, "dp": 8, "ep": 8},
    ),
    "experts over tensor-parallel attention": (
        replace(DECODE, model="mixtral-8x7b", devices=4, pp=1, dp=None, ep=4, notes="parallelism: EP over 4"),
        {"tp": 4, "dp": 1, "ep": 4},
    ),
    "ranks that count devices once": (
        replace(DECODE, model="deepseek-r1", devices=None, tp=1, dp=8, ep=8, notes=RANKS.format(8, 1, 1, 8)),
        {"tp": 1, "dp": 8, "ep": 8, "guesses": ("devices",)},
    ),
    "ranks that count devices twice": (
        replace(DECODE, model="deepseek-r1", devices=None, tp=None, dp=None, ep=None, notes=RANKS.format(64, 1, 8, 8)),
        {"tp": 1, "dp": 8, "ep": 8, "guesses": ("devices",)},
    ),
    "a benchmark's texts": (
        MLPERF,
        {"load": "full", "input_tokens": 294, "output_tokens": 294.45, "precision": "w=fp8", "beams": 1},
    ),
    "what a round's heading called tokens": (
        replace(MLPERF, notes=MLPERF.notes.replace("Offline", "Server")),
        {"answer": "samples_per_s"},
    ),
    "beams": (replace(MLPERF, model="gpt-j-6b", notes="batch: MLPerf Offline; input_len: CNN/DailyMail"), {"beams": 4}),
    "adapters": (
        SUBMITTED,
        {"door": "training", "trains": "adapters", "precision": "fp8", "input_tokens": 8192, "passes": 3187 / 8},
    ),
    "a network that is trained": (
        replace(SUBMITTED, model="retinanet", metric="samples_per_s", batch=256),
        {"door": "single", "variant": "train", "dp": 8, "batch": 256, "guesses": ("step",)},
    ),
    "pairs of a training table": (
        replace(SUBMITTED, model="dlrm-dcnv2", metric="samples_per_s", batch=55296),
        {"batch": 55296 / 270, "inputs": 55296},
    ),
    "recomputation counted": (
        replace(TRAIN, notes="FLOPs include recomputation; batch: global 64"),
        {"answer": "recomputed_tflops_per_device", "variant": "full"},
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked(name: str) -> None:
    row, wanted = ASKED[name]
    request = request_of(row)
    assert isinstance(request, Request), request
    assert {key: getattr(request, key) for key in wanted} == wanted


ASSUMED = {
    "kv format": (replace(SERVE, kv_format=""), "KV cache in the engine's default"),
    "engine": (replace(DECODE, engine="my own loop"), "engine 'my own loop' taken as"),
    "lengths in words": (replace(DECODE, input_tokens=None, notes="input_len: p50~280"), "280 tokens"),
    "gradient accumulation": (replace(TRAIN, batch=None), "no gradient accumulation"),
    "machine of a laboratory": (
        replace(DECODE, hardware="nvidia-a100", source="Argonne LLM-Inference-Bench (SC24) results CSV"),
        "nvidia-a100-sxm-40gb, as its laboratory has",
    ),
    "machine of nobody known": (
        replace(DECODE, hardware="nvidia-a100"),
        "does not say which nvidia-a100: nvidia-a100-sxm-80gb",
    ),
}


@pytest.mark.parametrize("name", ASSUMED)
def test_what_is_assumed_is_said(name: str) -> None:
    row, words = ASSUMED[name]
    request = request_of(row)
    assert isinstance(request, Request), request
    assert any(words in said for said in request.assumed), request.assumed


def test_a_complete_row_assumes_nothing() -> None:
    request = request_of(DECODE)
    assert isinstance(request, Request) and request.assumed == ()
