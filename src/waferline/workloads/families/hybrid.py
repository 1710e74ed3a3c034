"""Decoders with recurrent mixers: Mamba, Mamba-2, Nemotron-H, Jamba, Qwen3-Next and Qwen3.5.

Sources: Mamba (arXiv:2312.00752), Mamba-2 (arXiv:2405.21060), Nemotron-H (arXiv:2504.03624), Jamba (arXiv:2403.19887)
and the modelling code of the named `model_type` in huggingface/transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import (
    HIDDEN,
    LAYERS,
    Family,
    check_experts,
    grouped_heads,
    heads,
    self_attention,
    stack,
    tied,
    transformer,
)
from waferline.workloads.families.moe import experts, qwen_ffns
from waferline.workloads.spec import (
    Attention,
    Block,
    FeedForward,
    Ffn,
    LinearAttention,
    MixtureOfExperts,
    StateSpace,
    Transformer,
)


def _mamba1_mixer(c: ConfigReader, hidden: int, prefix: str = "", inner_norms: bool = False) -> StateSpace:
    """The Mamba-1 mixer, whose keys Jamba prefixes with `mamba_`."""
    names = ("intermediate_size",) if not prefix else ()
    expand = c.size_or(2, f"{prefix}expand")
    rank = f"{prefix}dt_rank" if prefix else "time_step_rank"
    return StateSpace(
        inner=c.size_or(expand * hidden, *names) if names else expand * hidden,
        state=c.size_or(16, f"{prefix}d_state" if prefix else "state_size"),
        conv_kernel=c.size_or(4, f"{prefix}d_conv" if prefix else "conv_kernel"),
        dt_rank=math.ceil(hidden / 16) if c.get(rank) == "auto" else c.size_or(math.ceil(hidden / 16), rank),
        conv_bias=c.flag(True, f"{prefix}conv_bias" if prefix else "use_conv_bias"),
        proj_bias=c.flag(False, f"{prefix}proj_bias" if prefix else "use_bias"),
        inner_norms=inner_norms,
    )


def _mamba(c: ConfigReader) -> Transformer:
    hidden, layers = c.size("hidden_size", "d_model"), c.layers(*LAYERS)
    block = Block(count=layers, mixer=_mamba1_mixer(c, hidden), norms=1)
    return transformer(c, hidden_size=hidden, blocks=(block,), tied_embeddings=tied(c, True))


def _mamba2(c: ConfigReader) -> Transformer:
    hidden, layers = c.size("hidden_size", "d_model"), c.layers(*LAYERS)
    number = c.size("num_heads")
    mixer = StateSpace(
        inner=c.size_or(2, "expand") * hidden,
        state=c.size_or(128, "state_size"),
        conv_kernel=c.size_or(4, "conv_kernel"),
        groups=c.size_or(8, "n_groups"),
        heads=number,
        conv_bias=c.flag(True, "use_conv_bias"),
        proj_bias=c.flag(False, "use_bias"),
    )
    if number * c.size_or(64, "head_dim") != mixer.inner:
        raise InvalidInputError(f"num_heads * head_dim is not the inner width {mixer.inner}", where=c.where)
    block = Block(count=layers, mixer=mixer, norms=1)
    return transformer(c, hidden_size=hidden, blocks=(block,), tied_embeddings=tied(c, False))


def _nemotron_h(c: ConfigReader) -> Transformer:
    """Nemotron-H: one part per layer, spelled M (Mamba-2), * (attention), - (dense) or E (experts)."""
    hidden = c.size(*HIDDEN)
    pattern = _layer_letters(c)
    if not pattern or set(pattern) - set("M*-E"):
        raise InvalidInputError(
            f"'hybrid_override_pattern' must spell layers with M, *, - and E, not {pattern!r}", where=c.where
        )
    parts: Mapping[str, Block] = {
        "M": Block(count=1, mixer=_nemotron_mamba(c), norms=1),
        "*": Block(count=1, mixer=_nemotron_attention(c, hidden), norms=1),
        "-": Block(count=1, ffn=FeedForward(c.size_or(1, "intermediate_size"), gated=False), norms=1),
        "E": Block(count=1, ffn=_nemotron_experts(c) if "E" in pattern else None, norms=1),
    }
    return transformer(
        c, hidden_size=hidden, blocks=stack(parts[letter] for letter in pattern), tied_embeddings=tied(c, False)
    )


def _layer_letters(c: ConfigReader) -> str:
    """One letter a layer, from `hybrid_override_pattern` or the list `layers_block_type` of later configurations."""
    kinds = c.items("layers_block_type")
    if kinds is None:
        return c.text("", "hybrid_override_pattern")
    letters = {"mamba": "M", "linear_attention": "M", "attention": "*", "full_attention": "*", "mlp": "-", "moe": "E"}
    return "".join(letters.get(str(kind), "?") for kind in kinds)


def _nemotron_mamba(c: ConfigReader) -> StateSpace:
    number = c.size("mamba_num_heads")
    return StateSpace(
        inner=number * c.size("mamba_head_dim"),
        state=c.size("ssm_state_size"),
        conv_kernel=c.size_or(4, "conv_kernel"),
        groups=c.size_or(8, "n_groups"),
        heads=number,
        conv_bias=c.flag(True, "use_conv_bias"),
        proj_bias=c.flag(False, "mamba_proj_bias"),
    )


def _nemotron_attention(c: ConfigReader, hidden: int) -> Attention:
    queries = c.size("num_attention_heads")
    width = c.size_or(hidden // queries, "head_dim", "attention_head_dim")
    return Attention(queries, grouped_heads(c, queries), width)


def _nemotron_experts(c: ConfigReader) -> MixtureOfExperts:
    """Routed experts without gate; in Nemotron 3 Super they work in a narrower latent space."""
    number, active = c.size("n_routed_experts"), c.size("num_experts_per_tok")
    check_experts(c, number, active)
    shared = c.size_or(0, "moe_shared_expert_intermediate_size", least=0) * c.size_or(1, "n_shared_experts")
    return MixtureOfExperts(
        number,
        active,
        c.size("moe_intermediate_size"),
        shared_intermediate=shared,
        gated=False,
        router_bias=True,
        latent=c.optional("moe_latent_size"),
    )


def _jamba(c: ConfigReader) -> Transformer:
    """Jamba: attention in every `attn_layer_period`-th layer, experts in every `expert_layer_period`-th."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    attention = self_attention(c, hidden)
    mamba = _mamba1_mixer(c, hidden, "mamba_", inner_norms=True)
    intermediate = c.size("intermediate_size")
    dense, sparse = FeedForward(intermediate), experts(c, intermediate)
    attn_every, attn_first = c.size_or(8, "attn_layer_period"), c.size_or(4, "attn_layer_offset", least=0)
    moe_every, moe_first = c.size_or(2, "expert_layer_period"), c.size_or(1, "expert_layer_offset", least=0)
    if sparse.experts == 1:
        moe_every, moe_first = 1, layers  # one expert is a dense part
    blocks = (
        Block(
            count=1,
            mixer=attention if i % attn_every == attn_first % attn_every else mamba,
            ffn=sparse if i >= moe_first and i % moe_every == moe_first % moe_every else dense,
        )
        for i in range(layers)
    )
    return transformer(c, hidden_size=hidden, blocks=stack(blocks), tied_embeddings=tied(c, False))


def _qwen3_next(c: ConfigReader) -> Transformer:
    """Qwen3-Next and Qwen3.5: gated delta-rule layers, then a gated full attention every fourth layer."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    queries, width = heads(c, hidden)
    bias = c.flag(False, "attention_bias")
    attention = Attention(
        queries,
        grouped_heads(c, queries),
        width,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=True,
        output_gate=c.flag(True, "attn_output_gate"),
    )
    linear = LinearAttention(
        key_heads=c.size("linear_num_key_heads"),
        value_heads=c.size("linear_num_value_heads"),
        key_dim=c.size("linear_key_head_dim"),
        value_dim=c.size("linear_value_head_dim"),
        conv_kernel=c.size_or(4, "linear_conv_kernel_dim"),
    )
    every = c.size_or(4, "full_attention_interval")
    kinds = c.items("layer_types", length=layers)
    full = [k == "full_attention" for k in kinds] if kinds else [(i + 1) % every == 0 for i in range(layers)]
    blocks = (
        Block(count=1, mixer=attention if is_full else linear, ffn=ffn)
        for is_full, ffn in zip(full, _qwen3_next_ffns(c, layers), strict=True)
    )
    return transformer(c, hidden_size=hidden, blocks=stack(blocks), tied_embeddings=tied(c, False))


def _qwen3_next_ffns(c: ConfigReader, layers: int) -> list[Ffn]:
    if c.get("num_experts", "num_local_experts") is None:
        return [FeedForward(c.size("intermediate_size"))] * layers
    return qwen_ffns(c, layers)


FAMILIES: dict[str, Family] = {
    "mamba": _mamba,
    "mamba2": _mamba2,
    "nemotron_h": _nemotron_h,
    "jamba": _jamba,
    "qwen3_next": _qwen3_next,
    "qwen3_5_text": _qwen3_next,
    "qwen3_5_moe_text": _qwen3_next,
}
