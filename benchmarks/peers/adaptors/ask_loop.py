"""A roofline summed over the operators of each layer, one Python call an operator: the arithmetic of LLM-Viewer.

LLM-Viewer itself (github.com/hahnyuan/LLM-Viewer, `model_analyzer.py`) is no package, so this stands for its speed alone,
and a little above it: of an operator it keeps nothing but the time. A layer is seven matrices, two products and a softmax
of attention, norms, additions and an activation, each the larger of FLOPs over the peak and bytes over the bandwidth.
Standard library alone.
"""

from __future__ import annotations

from answering import Question, Refused, Times, context_tokens, main, whole

BITS = {"fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "int4": 4}
NORM_FLOPS, SOFTMAX_FLOPS, ACTIVATION_FLOPS = 7, 5, 2  # per element, as LLM-Viewer counts them
ACTIVATION_BYTES = 2


def operator_s(q: Question, flops: float, moved_bytes: float) -> float:
    return max(flops / q["peak_flops"], moved_bytes / q["bandwidth_bytes_per_s"])


def matrices(s: dict[str, int], tp: int) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of every matrix of a layer on one device."""
    heads, kv = s["heads"] * s["head_dim"] // tp, s["kv_heads"] * s["head_dim"] // tp
    hidden, inner = s["hidden"], s["intermediate"] * s["experts_per_token"] // tp
    shapes = {"q": (hidden, heads), "k": (hidden, kv), "v": (hidden, kv), "o": (heads, hidden)}
    return shapes | {"gate": (hidden, inner), "up": (hidden, inner), "down": (inner, hidden)}


def pass_s(q: Question, tokens: int, context: int) -> float:
    """One pass of `tokens` new tokens of every sequence that attend to `context`."""
    s, tp, batch = q["structure"], whole(q["tp"]), whole(q["batch"])
    weight, rows, hidden = BITS[q["weights"]] / 8, tokens * batch, s["hidden"]
    seconds = {}
    for name, (inputs, outputs) in matrices(s, tp).items():
        moved = inputs * outputs * weight + rows * (inputs + outputs) * ACTIVATION_BYTES
        seconds[name] = operator_s(q, 2 * rows * inputs * outputs, moved)
    heads, dim = s["heads"] // tp, s["head_dim"]
    scores = rows * heads * context
    cache = batch * context * s["kv_heads"] // tp * dim * q["kv_bits"] / 8
    for name in ("scores", "values"):
        moved = cache + (scores + rows * heads * dim) * ACTIVATION_BYTES
        seconds[name] = operator_s(q, 2 * scores * dim, moved)
    seconds["softmax"] = operator_s(q, SOFTMAX_FLOPS * scores, 2 * scores * ACTIVATION_BYTES)
    for name in ("attention norm", "mlp norm"):
        seconds[name] = operator_s(q, NORM_FLOPS * rows * hidden, 2 * rows * hidden * ACTIVATION_BYTES)
    for name in ("attention add", "mlp add"):
        seconds[name] = operator_s(q, rows * hidden, 2 * rows * hidden * ACTIVATION_BYTES)
    seconds["activation"] = operator_s(q, ACTIVATION_FLOPS * rows * hidden, 3 * rows * hidden * ACTIVATION_BYTES)
    head = operator_s(q, 2 * batch * hidden * s["vocab"], hidden * s["vocab"] * weight)
    return s["layers"] * sum(seconds.values()) + head


def answer(q: Question) -> Times:
    if q["structure"] is None:
        raise Refused("model", "no plain stack of attention layers")
    prompt = whole(q["input_tokens"])
    return Times(ttft_s=pass_s(q, prompt, prompt), itl_s=pass_s(q, 1, context_tokens(q)))


if __name__ == "__main__":
    main(answer)
