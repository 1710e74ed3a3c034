"""Ready command lines of engines for a plan. Options as in the engines' own help; MODEL is the path or hub name of the weights."""

from __future__ import annotations

from waferline.traffic.planning.candidate import Candidate

# Formats that an engine makes as it loads; the others come with the checkpoint.
_MADE = {"fp8": "--quantization fp8"}


def commands(plan: Candidate, longest: int) -> dict[str, str]:
    """By engine that runs on the machine, the line that starts ONE replica; `longest`: tokens that a sequence may grow to."""
    made = _MADE.get(plan.precision, "")
    lines = {
        "vllm": _line("vllm serve MODEL", ("--tensor-parallel-size", plan.tp), ("--pipeline-parallel-size", plan.pp))
        + (" --enable-expert-parallel" if plan.ep > 1 else "")
        + f" --max-model-len {longest} {made}",
        "sglang": _line(
            "python -m sglang.launch_server --model-path MODEL",
            ("--tp-size", plan.tp), ("--pp-size", plan.pp), ("--ep-size", plan.ep),
        )
        + f" --context-length {longest} {made}",
        "tensorrt-llm": _line(
            "trtllm-serve MODEL", ("--tp_size", plan.tp), ("--pp_size", plan.pp), ("--ep_size", plan.ep)
        )
        + f" --max_seq_len {longest}",
        "llama.cpp": f"llama-server -m MODEL.gguf -ngl 999 -c {longest * int(plan.running)} -np {int(plan.running)}",
    }  # fmt: skip
    if not plan.device.name.startswith("nvidia"):
        del lines["tensorrt-llm"]
    if plan.device.kind != "gpu":
        lines = {"llama.cpp": lines["llama.cpp"]}
    return {name: line.strip() for name, line in lines.items()}


def _line(start: str, *degrees: tuple[str, int]) -> str:
    return " ".join([start, *(f"{option} {n}" for option, n in degrees if n > 1)])
