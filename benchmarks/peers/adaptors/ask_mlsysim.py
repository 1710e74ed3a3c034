"""mlsysim: `ServingModel.solve` of its own machines, with its own models where it has them."""

from __future__ import annotations

from functools import cache

import mlsysim
from answering import Question, Refused, Times, context_tokens, look_up, main, plain_stack, whole
from mlsysim.core.units import ureg
from mlsysim.models.types import SparseTransformerWorkload, TransformerWorkload
from mlsysim.solvers import ServingModel

MACHINES = {
    "nvidia-a100-sxm-80gb": "A100",
    "nvidia-a100-sxm-40gb": "A100_40GB",
    "nvidia-h100-sxm-80gb": "H100",
    "nvidia-h100-pcie-80gb": "H100_PCIe",
    "nvidia-h200-sxm": "H200",
    "nvidia-b200-sxm": "B200",
    "amd-mi300x": "MI300X",
    "amd-mi325x": "MI325X",
    "nvidia-t4": "T4",
    "nvidia-v100-sxm2-32gb": "V100",
    "intel-gaudi2": "Gaudi2",
    "intel-gaudi3": "Gaudi3",
    "aws-trainium2": "Trainium2",
}
OTHER_MACHINES = {"nvidia-dgx-spark-gb10": ("Workstation", "DGX_Spark")}
MODELS = {
    "llama-2-7b": "Llama2_7B",
    "llama-2-13b": "Llama2_13B",
    "llama-2-70b": "Llama2_70B",
    "llama-3-8b": "Llama3_8B",
    "llama-3.1-8b": "Llama3_8B",
    "llama-3-70b": "Llama3_70B",
    "llama-3.1-70b": "Llama3_70B",
    "llama-3.3-70b": "Llama3_70B",
    "llama-3.1-405b": "Llama3_405B",
    "mixtral-8x7b": "Mixtral_8x7B",
    "deepseek-v3": "DeepSeek_V3",
    "deepseek-r1": "DeepSeek_V3",
}
PRECISIONS = {
    "fp32": "fp32",
    "fp16": "fp16",
    "bf16": "fp16",
    "fp8": "fp8",
    "fp8_block": "fp8",
    "int8": "int8",
    "int4": "int4",
}
SOLVER = ServingModel()
_SIZES = (
    "parameters", "active_parameters", "layers", "hidden", "heads", "kv_heads",
    "head_dim", "experts", "experts_per_token",
)  # fmt: skip


@cache
def machine(name: str) -> object:
    if name in OTHER_MACHINES:
        group, entry = OTHER_MACHINES[name]
        return getattr(getattr(mlsysim.Hardware, group), entry)
    return getattr(mlsysim.Hardware.Cloud, look_up("machine", name, MACHINES))


def model(q: Question) -> object:
    """Its own entry; else the published structure in its workload class."""
    if q["model"] in MODELS:
        return getattr(mlsysim.Models.Language, MODELS[q["model"]])
    return built(q["model"], **plain_stack(q, *_SIZES))


@cache
def built(name: str, **s: int) -> object:
    plain = {
        "name": name,
        "architecture": "Transformer",
        "parameters": s["parameters"] * ureg.count,
        "layers": s["layers"],
        "hidden_dim": s["hidden"],
        "heads": s["heads"],
        "kv_heads": s["kv_heads"],
        "head_dim": s["head_dim"],
    }
    if s["experts"] == 1:
        return TransformerWorkload(**plain)
    active = {"active_parameters": s["active_parameters"] * ureg.count, "experts": s["experts"]}
    return SparseTransformerWorkload(**plain, **active, active_experts_per_token=s["experts_per_token"])


def answer(q: Question) -> Times:
    if q["devices"] != 1:
        raise Refused("parallelism", "its serving model is of one device")
    if q["load"] != "static" and q["needs"] != ["itl_s"]:
        raise Refused("load", "its serving model is of a static batch")
    common = {"model": model(q), "hardware": machine(q["hardware"]), "batch_size": whole(q["batch"])}
    common["precision"] = look_up("format", q["weights"], PRECISIONS)
    times = Times()
    if "ttft_s" in q["needs"]:
        times["ttft_s"] = seconds("ttft", SOLVER.solve(seq_len=whole(q["input_tokens"]), **common))
    if "itl_s" in q["needs"]:
        times["itl_s"] = seconds("itl", SOLVER.solve(seq_len=context_tokens(q), **common))
    return times


def seconds(name: str, result: object) -> float:
    if not result.feasible:  # type: ignore[attr-defined]
        raise Refused("memory", "does not fit by its memory model")
    return float(getattr(result, name).to("s").magnitude)


if __name__ == "__main__":
    main(answer)
