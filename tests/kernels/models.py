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
TOKENS = (1, 300, 5, 17, 299, 310, 44, 270)
TEXTS = ("hello t5 world", "", "a  b\n\ttab", "naïve café 東京 🙂", "t10t11 ▁ t12")
