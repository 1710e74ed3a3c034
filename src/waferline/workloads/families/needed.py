"""Keys without which a family's structure is not known: their class has no default, or one that is another model.

Every published configuration writes them; a file without one is refused and never read as something smaller.
"""

from __future__ import annotations

from collections.abc import Mapping

from waferline.workloads.config_reader import ConfigReader

_LATENT = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
# Family → keys, the names of one fact divided by "|". Null counts as said.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "kimi_k2": (
        *(
            "n_routed_experts",
            "n_shared_experts",
            "num_experts_per_tok",
            "moe_intermediate_size",
            "first_k_dense_replace",
        ),
        *_LATENT,
    ),
    "minimax_m3": ("num_local_experts", "num_experts_per_tok", "head_dim"),
    "step3p7": ("head_dim", "sliding_window", "moe_intermediate_size", "share_expert_dim|share_expert_dims"),
    "pangu_pro_moe": ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size"),
    "mllama_text_model": ("cross_attention_layers",),
    "dbrx": ("attn_config", "ffn_config"),
}


def check_needed(c: ConfigReader, family: str) -> None:
    """Raises: FileFormatError for a missing key that decides what the family builds."""
    for fact in NEEDED.get(family, ()):
        keys = fact.split("|")
        if not c.said(*keys):
            c.need(*keys)
