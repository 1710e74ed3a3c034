"""aiconfigurator-core: its compiled engine (`EngineHandle.run_static`) and, under load, its aggregated serving (`run_agg`).

The engine's version is the newest its tables hold. The context budget of a step under load is the prompt length, which
is the default of the full tool's `cli estimate`.
"""

from __future__ import annotations

import json
import logging
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import aiconfigurator_core
from aiconfigurator_core.sdk import EngineHandle, RuntimeConfig
from aiconfigurator_core.sdk.backends.factory import get_backend
from aiconfigurator_core.sdk.config_builders import build_model_config
from aiconfigurator_core.sdk.models import get_model
from aiconfigurator_core.sdk.perf_database import get_database, get_version_slots
from answering import Question, Refused, Times, look_up, main, one_line, whole

MACHINES = {
    "nvidia-a100-sxm-80gb": "a100_sxm",
    "nvidia-a100-pcie-80gb": "a100_pcie",
    "nvidia-a30": "a30",
    "nvidia-h100-sxm-80gb": "h100_sxm",
    "nvidia-h100-pcie-80gb": "h100_pcie",
    "nvidia-h200-sxm": "h200_sxm",
    "nvidia-b200-sxm": "b200_sxm",
    "nvidia-b300-sxm": "b300_sxm",
    "nvidia-gb200": "gb200",
    "nvidia-gb300": "gb300",
    "nvidia-l4": "l4",
    "nvidia-l40s": "l40s",
    "nvidia-rtx-pro-6000-server": "rtx_pro_6000_server",
}
BACKENDS = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "trtllm"}
MODELS = {
    "llama-3-8b": "meta-llama/Meta-Llama-3.1-8B",
    "llama-3.1-8b": "meta-llama/Meta-Llama-3.1-8B",
    "llama-3-70b": "meta-llama/Meta-Llama-3.1-70B",
    "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B",
    "llama-3.3-70b": "meta-llama/Meta-Llama-3.1-70B",
    "llama-3.1-405b": "meta-llama/Meta-Llama-3.1-405B",
    "mixtral-8x7b": "mistralai/Mixtral-8x7B-v0.1",
    "qwen3-0.6b": "Qwen/Qwen3-0.6B",
    "qwen3-32b": "Qwen/Qwen3-32B",
    "qwen3-30b-a3b": "Qwen/Qwen3-30B-A3B",
    "qwen3-235b-a22b": "Qwen/Qwen3-235B-A22B",
    "qwen3.5-397b-a17b": "Qwen/Qwen3.5-397B-A17B",
    "minimax-m2.5": "MiniMaxAI/MiniMax-M2.5",
    "deepseek-v3": "deepseek-ai/DeepSeek-V3",
    "deepseek-r1": "deepseek-ai/DeepSeek-R1",
    "kimi-k2.5": "moonshotai/Kimi-K2.5",
    "glm-5": "zai-org/GLM-5",
    "gpt-oss-20b": "openai/gpt-oss-20b",
    "gpt-oss-120b": "openai/gpt-oss-120b",
    "llama-4-maverick": "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
    "llama-4-scout": "meta-llama/Llama-4-Scout-17B-16E-Instruct",
}
GEMM = {
    "fp16": "bfloat16",
    "bf16": "bfloat16",
    "fp8": "fp8",
    "fp8_block": "fp8_block",
    "nvfp4": "nvfp4",
    "int8": "int8_wo",
    "int4": "int4_wo",
}
MOE = {**GEMM, "int8": "fp8", "mxfp4": "w4a16_mxfp4"}
KV = {16: "bfloat16", 8: "fp8"}
_PACKAGED = Path(aiconfigurator_core.__file__).parent / "model_configs"
_FOLDER = Path(tempfile.mkdtemp(prefix="configs-"))
logging.disable(logging.CRITICAL)


def model_path(q: Question) -> str:
    """A model it ships the configuration of, as a local folder, which it takes like a downloaded one; else the structure."""
    name = q["model"]
    folder = _FOLDER / name
    if not (folder / "config.json").exists():
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(_config(q)), encoding="utf-8")
    return str(folder)


def _config(q: Question) -> dict[str, Any]:
    if q["model"] in MODELS:
        packaged = _PACKAGED / f"{MODELS[q['model']].replace('/', '--')}_config.json"
        return json.loads(packaged.read_text(encoding="utf-8"))
    s = q["structure"]
    if s is None or not s["gated"] or s["shared_intermediate"]:
        raise Refused("model", f"model {q['model']} is not in its catalogue and not of a family that it builds")
    return {
        "architectures": ["LlamaForCausalLM" if s["experts"] == 1 else "MixtralForCausalLM"],
        "model_type": "llama" if s["experts"] == 1 else "mixtral",
        "num_hidden_layers": s["layers"],
        "hidden_size": s["hidden"],
        "intermediate_size": s["intermediate"],
        "num_attention_heads": s["heads"],
        "num_key_value_heads": s["kv_heads"],
        "head_dim": s["head_dim"],
        "vocab_size": s["vocab"],
        "max_position_embeddings": s["max_positions"] or 131072,
        "num_local_experts": s["experts"],
        "num_experts_per_tok": s["experts_per_token"],
        "torch_dtype": "bfloat16",
    }


def options(q: Question) -> tuple[tuple[str, Any], ...]:
    """Parallel degrees and number formats, as its builders take them."""
    tp, pp, dp, ep = (whole(q[k]) for k in ("tp", "pp", "dp", "ep"))
    modes: dict[str, str | None] = {"kvcache_quant_mode": KV.get(q["kv_bits"])}
    if "attention" in q:
        modes |= {"kvcache_quant_mode": q["attention"], "fmha_quant_mode": q["attention"]}
    if q["gemm"] or q["moe"]:  # the source of the row names them in this tool's own terms
        modes |= {"gemm_quant_mode": q["gemm"], "moe_quant_mode": q["moe"]}
    else:
        modes |= {"gemm_quant_mode": GEMM.get(q["weights"]), "moe_quant_mode": MOE.get(q["weights"])}
        if modes["moe_quant_mode"] is None:
            raise Refused("format", f"format {q['weights']} is none of its own")
        if q["weights"] == "mxfp4":
            modes["gemm_quant_mode"] = "bfloat16"
    degrees = {"tp_size": tp, "pp_size": pp, "attention_dp_size": dp}
    degrees |= {"moe_tp_size": whole(tp * dp / ep), "moe_ep_size": ep}
    return tuple(sorted({**degrees, **modes}.items()))


@cache
def engine(path: str, system: str, backend: str, chosen: tuple[tuple[str, Any], ...]) -> EngineHandle:
    return EngineHandle.compile(path, system, backend, **dict(chosen))


@cache
def serving(path: str, system: str, backend: str, chosen: tuple[tuple[str, Any], ...]) -> tuple[Any, Any, Any]:
    slots = get_version_slots(system, backend)
    if not slots:
        raise Refused("data", f"no tables for {system} with {backend}")
    database = get_database(system, backend, slots["current"])
    return get_backend(backend), get_model(path, build_model_config(**dict(chosen)), backend), database


def answer(q: Question) -> Times:
    """With the formats as asked; where its tables lack them, as a user would go on: see `_attempts`."""
    refusal = Refused("data", "")
    for change in _attempts(q):
        try:
            return _with_formats({**q, **change})
        except Refused as error:
            refusal = error
            if error.kind != "data":
                break
    raise refusal


def _attempts(q: Question) -> list[dict[str, str | None]]:
    """fp8 models also with block scales, as such checkpoints ship; unstated KV formats also with the tool's
    default and with 16-bit attention."""
    weights: list[dict[str, str | None]] = [{}]
    if q["weights"].startswith("fp8"):
        weights.append({"gemm": "fp8_block", "moe": "fp8_block"})
    attention: list[dict[str, str | None]] = [{}]
    if not q["kv_stated"]:
        attention += [{"attention": None}, {"attention": "bfloat16"}]
    return [{**w, **a} for a in attention for w in weights]


def _with_formats(q: Question) -> Times:
    backend = look_up("engine", q["engine"], BACKENDS)
    system = look_up("machine", q["hardware"], MACHINES)
    key = (model_path(q), system, backend, options(q))
    batch, prompt = whole(q["batch"] / q["dp"]), whole(q["input_tokens"])
    try:
        if q["load"] != "static":
            return _served(q, key, batch, prompt)
        return _static(q, engine(*key), batch, prompt)
    except Exception as error:
        if "NotAvailable" in type(error).__name__ or "missing" in str(error):
            raise Refused("data", one_line(error)) from None
        raise


def _static(q: Question, handle: EngineHandle, batch: int, prompt: int) -> Times:
    tokens = max(whole(q["output_tokens"]), 2)
    context_ms, generation_ms, _ = handle.run_static(batch_size=batch, isl=prompt, osl=tokens)
    return Times(ttft_s=context_ms / 1e3, itl_s=generation_ms / 1e3 / (tokens - 1))


def _served(q: Question, key: tuple[Any, ...], batch: int, prompt: int) -> Times:
    backend, model, database = serving(*key)
    runtime = RuntimeConfig(batch_size=batch, isl=prompt, osl=max(whole(q["output_tokens"]), 2))
    summary = backend.run_agg(model, database, runtime, ctx_tokens=prompt)
    if summary.check_oom():
        raise Refused("memory", "does not fit by its memory model")
    result = summary.get_result_dict()
    return Times(ttft_s=float(result["ttft"]) / 1e3, itl_s=float(result["tpot"]) / 1e3)


if __name__ == "__main__":
    main(answer)
