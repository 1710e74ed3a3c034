"""The small random models the runner is tested with, by name."""

from __future__ import annotations

from tests.kernels.random_gguf import RandomModel

MODELS: dict[str, RandomModel] = {
    "llama-q4_k": RandomModel(),
    "llama-q5_k-tied": RandomModel(format="Q5_K", tied=True),
    "qwen2-q4_k": RandomModel(architecture="qwen2"),
    "qwen3-q6_k": RandomModel(architecture="qwen3", format="Q6_K", head_dim=128),
    "mixtral-q4_k": RandomModel(experts=4, experts_used=2),
    "qwen2moe-q4_k": RandomModel(architecture="qwen2moe", experts=4, experts_used=2, shared_ffn=256),
    "qwen3moe-q4_k": RandomModel(architecture="qwen3moe", experts=4, experts_used=2),
}
# Families that are held against NumPy (`numpy_model.py`): weights are floats, so that nothing but the cache is rounded; windows
# are shorter than the prompt, caps low enough to bend.
_YARN = (("rope.scaling.type", "yarn"), ("rope.scaling.factor", 4.0), ("rope.scaling.original_context_length", 64))
_LONG = (("rope.scaling.type", "longrope"), ("rope.scaling.attn_factor", 1.19))


def _plain(architecture: str, *more: tuple[str, int | float | str], **sizes: object) -> RandomModel:
    shape = {"layers": 3, "d_model": 64, "ffn": 96, "head_dim": 32, "format": "F32", "head_format": "F32", **sizes}
    return RandomModel(architecture=architecture, more=more, **shape)  # type: ignore[arg-type]


FAMILIES: dict[str, RandomModel] = {
    "llama-linear": _plain("llama", ("rope.scaling.type", "linear"), ("rope.scaling.factor", 2.0)),
    "llama-yarn": _plain("llama", *_YARN),
    "mixtral": _plain("llama", experts=4, experts_used=2),
    "qwen2": _plain("qwen2"),
    "qwen2moe": _plain("qwen2moe", experts=4, experts_used=2, shared_ffn=64),
    "qwen3": _plain("qwen3"),
    "qwen3moe": _plain("qwen3moe", experts=4, experts_used=2),
    "gemma": _plain("gemma", tied=True),
    "gemma2": _plain(
        "gemma2", ("attention.sliding_window", 3), ("attn_logit_softcapping", 2.0), ("final_logit_softcapping", 3.0),
        tied=True,
    ),
    "gemma3": _plain("gemma3", ("attention.sliding_window", 3), tied=True, layers=7, rope_base=1e6),
    "gemma3-scaled": _plain(
        "gemma3", ("attention.sliding_window", 4), ("rope.scaling.type", "linear"), ("rope.scaling.factor", 8.0),
        tied=True, layers=6,
    ),
    "olmo2": _plain("olmo2"),
    "olmo3": _plain("olmo2", ("attention.sliding_window", 3), *_YARN, layers=5),
    "olmoe": _plain("olmoe", experts=4, experts_used=2),
    "granite": _plain(
        "granite", ("attention.scale", 0.3), ("embedding_scale", 12.0), ("residual_scale", 0.22), ("logit_scale", 8.0)
    ),
    "phi3": _plain("phi3", ("attention.sliding_window", 3)),
    "phi3-long": _plain("phi3", *_LONG, ("rope.scaling.original_context_length", 64)),
    "phi3-short": _plain("phi3", *_LONG, ("rope.scaling.original_context_length", 4096)),
    "seed_oss": _plain("seed_oss"),
    "gpt-oss": _plain("gpt-oss", ("attention.sliding_window", 3), *_YARN, experts=4, experts_used=2),
}  # fmt: skip
TOKENS = (1, 300, 5, 17, 299, 310, 44, 270)
TEXTS = ("hello t5 world", "", "a  b\n\ttab", "naïve café 東京 🙂", "t10t11 ▁ t12")
