"""llm-analysis: `LLMAnalysis.inference` of its own GPUs, with its own models where it has them."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from answering import Question, Refused, Times, look_up, main, plain_stack, static_only, whole
from llm_analysis.analysis import LLMAnalysis
from llm_analysis.config import (
    DtypeConfig,
    ModelConfig,
    ParallelismConfig,
    get_gpu_config_by_name,
    get_model_config_by_name,
)
from llm_analysis.logger import logger

# The efficiencies of the inference examples its authors publish (fe0.7, hbme0.9), also named in its README.
FLOPS_EFFICIENCY, MEMORY_EFFICIENCY = 0.7, 0.9
MACHINES = {
    "nvidia-a10": "a10-pcie-28gb",
    "nvidia-a100-pcie-40gb": "a100-pcie-40gb",
    "nvidia-a100-pcie-80gb": "a100-pcie-80gb",
    "nvidia-a100-sxm-40gb": "a100-sxm-40gb",
    "nvidia-a100-sxm-80gb": "a100-sxm-80gb",
    "nvidia-rtx-a6000": "a6000-48gb",
    "nvidia-h100-pcie-80gb": "h100-pcie-80gb",
    "nvidia-h100-sxm-80gb": "h100-sxm-80gb",
    "amd-mi100": "mi100-32gb",
    "amd-mi210": "mi210-64gb",
    "amd-mi250": "mi250-128gb",
    "amd-mi250x": "mi250x-128gb",
    "nvidia-v100-pcie-16gb": "v100-pcie-16gb",
    "nvidia-v100-pcie-32gb": "v100-pcie-32gb",
    "nvidia-v100-sxm2-16gb": "v100-sxm-16gb",
    "nvidia-v100-sxm2-32gb": "v100-sxm-32gb",
}
MODELS = {
    "llama-2-7b": "NousResearch_Llama-2-7b-hf",
    "llama-2-70b": "upstage_Llama-2-70b-instruct-v2",
    "llama-7b": "decapoda-research_llama-7b-hf",
    "llama-13b": "decapoda-research_llama-13b-hf",
    "llama-33b": "decapoda-research_llama-30b-hf",
    "opt-6.7b": "facebook_opt-6.7b",
    "bloom-7b1": "bigscience_bloom-7b1",
    "gpt-j-6b": "EleutherAI_gpt-j-6b",
    "megatron-530b": "megatron-lm-530b",
}
WEIGHT_BITS = {"fp16": 16, "bf16": 16, "fp8": 8, "fp8_block": 8, "int8": 8, "int4": 4, "nvfp4": 4, "mxfp4": 4}
logger.setLevel(logging.CRITICAL)

_SIZES = (
    "vocab", "max_positions", "hidden", "intermediate", "gated", "layers",
    "heads", "kv_heads", "experts", "experts_per_token",
)  # fmt: skip


def model(q: Question) -> ModelConfig:
    if q["model"] in MODELS:
        return get_model_config_by_name(MODELS[q["model"]])
    return built(q["model"], **plain_stack(q, *_SIZES))


@cache
def built(name: str, **s: Any) -> ModelConfig:
    """Its MLP has two matrices: a gated one is given half as wide again, as its own Llama entries are."""
    width = s["intermediate"] * 1.5 if s["gated"] else s["intermediate"]
    return ModelConfig(
        name=name,
        num_layers=s["layers"],
        n_head=s["heads"],
        hidden_dim=s["hidden"],
        vocab_size=s["vocab"],
        max_seq_len=s["max_positions"] or None,
        num_key_value_heads=s["kv_heads"],
        ffn_embed_dim=width,
        expansion_ratio=width / s["hidden"],
        moe_num_experts=s["experts"],
        moe_top_k=s["experts_per_token"],
    )


def answer(q: Question) -> Times:
    static_only(q)
    gpu = get_gpu_config_by_name(look_up("machine", q["hardware"], MACHINES))
    if q["weights"] not in WEIGHT_BITS:
        raise Refused("format", f"format {q['weights']} is none of its 4, 8 and 16 bits")
    tp, pp, ep = (whole(q[k]) for k in ("tp", "pp", "ep"))
    analysis = LLMAnalysis(
        model(q),
        gpu,
        DtypeConfig("asked", WEIGHT_BITS[q["weights"]], WEIGHT_BITS.get(q["activations"], 16), 16),
        ParallelismConfig(tp_size=tp, pp_size=pp, ep_size=ep),
        flops_efficiency=FLOPS_EFFICIENCY,
        hbm_memory_efficiency=MEMORY_EFFICIENCY,
    )
    try:
        summary = analysis.inference(
            batch_size_per_gpu=whole(q["batch"] / q["dp"]),
            seq_len=whole(q["input_tokens"]),
            num_tokens_to_generate=whole(q["output_tokens"]),
            kv_cache_dtype_bytes=q["kv_bits"] / 8,
        )
    except AssertionError as error:
        if "too large" in str(error):
            raise Refused("memory", "does not fit by its memory model") from None
        raise
    return Times(ttft_s=float(summary["prefill_latency"]), itl_s=float(summary["decode_latency"]))


if __name__ == "__main__":
    main(answer)
