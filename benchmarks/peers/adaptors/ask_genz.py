"""genz-llm: `prefill_moddeling` and `decode_moddeling` of its own systems, with its own models where it has them."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from answering import Question, Refused, Times, look_up, main, plain_stack, static_only, whole
from GenZ import ModelConfig, decode_moddeling, prefill_moddeling

MACHINES = {
    "nvidia-a100-sxm-40gb": "A100_40GB_GPU",
    "nvidia-a100-sxm-80gb": "A100_80GB_GPU",
    "nvidia-h100-sxm-80gb": "H100_GPU",
    "nvidia-gh200-144gb": "GH200_GPU",
    "amd-mi300x": "MI300X",
    "amd-mi325x": "MI325X",
    "intel-gaudi3": "Gaudi3",
    "google-tpu-v4": "TPUv4",
    "google-tpu-v5e": "TPUv5e",
    "google-tpu-v5p": "TPUv5p",
    "google-tpu-v6e": "TPUv6",
}
MODELS = {
    "llama-2-7b": "meta-llama/Llama-2-7B",
    "llama-2-13b": "meta-llama/Llama-2-13B",
    "llama-2-70b": "meta-llama/Llama-2-70B",
    "llama-3-8b": "meta-llama/Llama-3.1-8B",
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B",
    "llama-3-70b": "meta-llama/Llama-3.1-70B",
    "llama-3.1-70b": "meta-llama/Llama-3.1-70B",
    "llama-3.3-70b": "meta-llama/Llama-3.1-70B",
    "llama-3.1-405b": "meta-llama/Llama-3.1-405B",
    "llama-3.2-3b": "meta-llama/Llama-3.2-3B",
    "mistral-7b": "mistralai/Mistral-7B",
    "mixtral-8x7b": "mistralai/Mixtral-8x7B",
    "qwen2.5-7b": "Qwen/Qwen2.5-7B",
    "gemma-2b": "google/gemma-2B",
    "gemma-7b": "google/gemma-7B",
    "opt-6.7b": "facebook/opt-6.7b",
}
# One width for weights, activations and KV cache is all it takes: the weights' one is given.
BITS = {
    "fp32": "f32",
    "fp16": "bf16",
    "bf16": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8",
    "int8": "int8",
    "int4": "int4",
    "nvfp4": "fp4",
    "mxfp4": "fp4",
}
_FILES = Path("/tmp/genz/data/model")  # where it leaves one file a call

_SIZES = (
    "vocab", "max_positions", "hidden", "intermediate", "gated", "layers",
    "heads", "kv_heads", "head_dim", "experts", "experts_per_token",
)  # fmt: skip


def model(q: Question) -> object:
    if q["model"] in MODELS:
        return MODELS[q["model"]]
    return built(q["model"], **plain_stack(q, *_SIZES))


@cache
def built(name: str, **s: int) -> object:
    return ModelConfig(
        model=name,
        vocab_size=s["vocab"],
        max_model_len=s["max_positions"] or 128000,
        hidden_size=s["hidden"],
        intermediate_size=s["intermediate"],
        num_ffi=2 if s["gated"] else 1,
        num_decoder_layers=s["layers"],
        num_attention_heads=s["heads"],
        num_key_value_heads=s["kv_heads"],
        head_dim=s["head_dim"],
        num_experts=s["experts"],
        expert_top_k=s["experts_per_token"],
    )


def answer(q: Question) -> Times:
    static_only(q)
    tp, ep, pp = (whole(q[k]) for k in ("tp", "ep", "pp"))
    common = {
        "model": model(q),
        "batch_size": whole(q["batch"] / q["dp"]),
        "input_tokens": whole(q["input_tokens"]),
        "system_name": look_up("machine", q["hardware"], MACHINES),
        "bits": look_up("format", q["weights"], BITS),
        "tensor_parallel": whole(tp / ep),  # its degrees multiply to the number of devices
        "expert_parallel": ep,
        "pipeline_parallel": pp,
    }
    times = Times()
    try:
        if "ttft_s" in q["needs"]:
            times["ttft_s"] = batch_s(q, prefill_moddeling(**common))
        if "itl_s" in q["needs"]:
            half = int(q["output_tokens"] / 2)
            times["itl_s"] = batch_s(q, decode_moddeling(output_tokens=half, Bb=1, **common))
    except ValueError as error:
        if "would not fit" in str(error):
            raise Refused("memory", "does not fit by its memory model") from None
        raise
    return times


def batch_s(q: Question, result: dict[str, float]) -> float:
    """Seconds of the batch: its throughput counts the micro-batches of a pipeline, its latency is of one alone."""
    return whole(q["batch"] / q["dp"]) / float(result["Throughput"])


if __name__ == "__main__":
    kept = _FILES.exists()
    main(answer)
    if not kept:
        shutil.rmtree(_FILES)
