"""Decoders with state-space mixers: Mamba, Mamba-2, Nemotron-H, Jamba, Bamba, Granite 4, Falcon-H1, Zamba2.

Sources: Mamba (arXiv:2312.00752), Mamba-2 (arXiv:2405.21060), Nemotron-H (arXiv:2504.03624), Jamba (arXiv:2403.19887),
Falcon-H1 (arXiv:2507.22448), Zamba2 (arXiv:2411.15242) and the modelling code of the named `model_type` in
huggingface/transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import (
    HIDDEN,
    LAYERS,
    Family,
    check_experts,
    grouped_heads,
    self_attention,
    stack,
    tied,
    transformer,
)
from waferline.workloads.families.mixture import EXPERTS, experts, has_experts
from waferline.workloads.spec import (
    Attention,
    Block,
    FeedForward,
    Ffn,
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
    kinds = c.items("layers_block_type", "layer_types")
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


def _mamba2_mixer(c: ConfigReader, hidden: int, inner_keys: tuple[str, ...] = (), **fields: Any) -> StateSpace:
    """The Mamba-2 mixer under Bamba's keys."""
    inner = c.optional(*inner_keys) if inner_keys else None
    inner = c.size_or(2, "mamba_expand") * hidden if inner is None else inner
    number = c.size("mamba_n_heads", "n_mamba_heads")
    if inner % number:
        raise InvalidInputError(f"{number} Mamba heads do not divide the inner width {inner}", where=c.where)
    return StateSpace(
        inner=inner,
        state=c.size_or(256, "mamba_d_state"),
        conv_kernel=c.size_or(4, "mamba_d_conv"),
        groups=c.size_or(1, "mamba_n_groups", "mamba_ngroups"),
        heads=number,
        conv_bias=c.flag(True, "mamba_conv_bias", "use_conv_bias"),
        proj_bias=c.flag(False, "mamba_proj_bias", "add_bias_linear"),
        **fields,
    )


_ATTENDS = ("attention", "full_attention", "hybrid")
_MAMBA = ("mamba", "mamba2", "linear_attention")


def _attends(c: ConfigReader, layers: int) -> list[bool]:
    """Which layers attend: a list of kinds, or of layer numbers; none without either."""
    kinds = c.kinds({*_ATTENDS, *_MAMBA}, "layer_types", "layers_block_type", length=layers)
    if kinds is not None:
        return [kind in _ATTENDS for kind in kinds]
    numbers = c.indices("attn_layer_indices", layers) or c.indices("hybrid_layer_ids", layers)
    if numbers is None:
        c.assume("layer_types", "mamba alone")
        return [False] * layers
    return [i in numbers for i in range(layers)]


def _bamba(c: ConfigReader) -> Transformer:
    """Bamba: Mamba-2 with a few attention layers, each with a feed-forward part."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    bias = c.flag(False, "attention_bias")
    attention = self_attention(c, hidden, qkv_bias=bias, out_bias=bias)
    mamba = _mamba2_mixer(c, hidden)
    ffn = FeedForward(c.size("intermediate_size"), bias=c.flag(False, "mlp_bias"))
    blocks = (Block(count=1, mixer=attention if attends else mamba, ffn=ffn) for attends in _attends(c, layers))
    return transformer(c, hidden_size=hidden, blocks=stack(blocks), tied_embeddings=tied(c, False))


def _granite_hybrid(c: ConfigReader) -> Transformer:
    """Granite 4: Mamba-2 with a few attention layers; experts beside a shared part, or the shared part alone."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    bias = c.flag(False, "attention_bias")
    attends = _attends(c, layers)
    attention = self_attention(c, hidden, qkv_bias=bias, out_bias=bias)
    mamba = attention if all(attends) else _mamba2_mixer(c, hidden)
    ffn: Ffn
    if has_experts(c) and c.size_or(0, *EXPERTS, least=0):
        ffn = experts(
            c, c.size("intermediate_size"), shared_intermediate=c.size_or(0, "shared_intermediate_size", least=0)
        )
    else:
        ffn = FeedForward(c.size("shared_intermediate_size", "intermediate_size"))
    blocks = (Block(count=1, mixer=attention if attend else mamba, ffn=ffn) for attend in attends)
    return transformer(c, hidden_size=hidden, blocks=stack(blocks), tied_embeddings=tied(c, False))


def _falcon_h1(c: ConfigReader) -> Transformer:
    """Falcon-H1: attention and Mamba-2 side by side in every layer."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    bias = c.flag(False, "attention_bias")
    mamba = _mamba2_mixer(c, hidden, ("mamba_d_ssm",), gated_norm=c.flag(False, "mamba_rms_norm"))
    block = Block(
        count=layers,
        mixer=self_attention(c, hidden, qkv_bias=bias, out_bias=bias),
        beside=mamba,
        ffn=FeedForward(c.size("intermediate_size"), bias=c.flag(False, "mlp_bias")),
    )
    return transformer(c, hidden_size=hidden, blocks=(block,), tied_embeddings=tied(c, False))


def _zamba2(c: ConfigReader) -> Transformer:
    """Zamba2: Mamba-2 in every layer; some also use one of a few shared blocks, which read the embedding beside the state.

    A shared block attends over twice the width; each use has a projection and low-rank adapters of its own.
    """
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    queries, wide = c.size("num_attention_heads"), 2 * hidden
    uses, stored = sum(_attends(c, layers)) or _ZAMBA2_USES, c.size_or(1, "num_mem_blocks")
    attention = Attention(queries, grouped_heads(c, queries), wide // queries)
    inner, rank = c.size_or(4 * hidden, "intermediate_size"), c.size_or(128, "adapter_rank")
    missing = hidden * wide + 2 * hidden * attention.kv_heads * attention.head_dim  # projections read twice the width
    adapters = rank * (hidden + 2 * inner)
    if c.flag(False, "use_shared_attention_adapter"):
        adapters += 3 * rank * 2 * wide
    blocks = (
        Block(count=layers, mixer=_mamba2_mixer(c, hidden), norms=1),
        Block(
            count=uses,
            mixer=attention,
            ffn=FeedForward(inner),
            norms=3,
            side=missing,
            distinct=min(stored, uses),
        ),
        Block(count=uses, norms=0, side=hidden * hidden + adapters),
    )
    return transformer(c, hidden_size=hidden, blocks=blocks, tied_embeddings=tied(c, True))


_ZAMBA2_USES = 9  # of 54 layers where the file lists none (transformers' Zamba2Config)

FAMILIES: dict[str, Family] = {
    "mamba": _mamba,
    "falcon_mamba": _mamba,
    "mamba2": _mamba2,
    "nemotron_h": _nemotron_h,
    "jamba": _jamba,
    "bamba": _bamba,
    "granitemoehybrid": _granite_hybrid,
    "falcon_h1": _falcon_h1,
    "zamba2": _zamba2,
}
