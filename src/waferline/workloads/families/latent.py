"""Decoders with multi-head latent attention: DeepSeek V2 to V4, Kimi K2, GLM-4.7-Flash, GLM-5, LongCat, Mistral 4.

Sources: DeepSeek-V2 (arXiv:2405.04434), DeepSeek-V3 (arXiv:2412.19437, section 2.2 for multi-token prediction),
DeepSeek-V3.2-Exp (sparse attention), LongCat-Flash (arXiv:2509.01322), the modelling code in huggingface/transformers.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.counts import multi_token_prediction
from waferline.workloads.families.common import HEADS, HIDDEN, LAYERS, Family, check_experts, stack, tied, transformer
from waferline.workloads.families.mixture import Mix, experts, ffns, per_layer, router_bias
from waferline.workloads.spec import (
    Block,
    CompressedAttention,
    FeedForward,
    LatentAttention,
    MixtureOfExperts,
    Transformer,
)


def latent_attention(c: ConfigReader, v_head_dim: int | None = None) -> LatentAttention:
    return LatentAttention(
        heads=c.size(*HEADS),
        q_lora_rank=c.optional("q_lora_rank"),
        kv_lora_rank=c.size("kv_lora_rank"),
        qk_nope_head_dim=c.size("qk_nope_head_dim"),
        qk_rope_head_dim=c.size("qk_rope_head_dim"),
        v_head_dim=c.size("v_head_dim") if v_head_dim is None else c.size_or(v_head_dim, "v_head_dim"),
        index_heads=c.size_or(0, "index_n_heads", least=0),
        index_head_dim=c.size_or(0, "index_head_dim", least=0),
        index_topk=c.size_or(0, "index_topk", least=0),
    )


def _deepseek(c: ConfigReader, first: int = 0, norms_after: int = 0) -> Transformer:
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    attention = latent_attention(c, hidden // c.size(*HEADS))
    parts = ffns(c, layers, Mix(router_bias=router_bias(c), first=first))
    blocks = stack(
        Block(
            count=1,
            mixer=replace(attention, index_shared=shared),
            ffn=ffn,
            norms=2 + (norms_after if isinstance(ffn, MixtureOfExperts) else 0),
        )
        for ffn, shared in zip(parts, _shares_index(c, layers), strict=True)
    )
    modules = c.size_or(0, "num_nextn_predict_layers", least=0)
    return transformer(
        c,
        hidden_size=hidden,
        blocks=blocks,
        tied_embeddings=tied(c, False),
        extra_params=modules * multi_token_prediction(blocks[-1], hidden),
    )


def _shares_index(c: ConfigReader, layers: int) -> list[bool]:
    """GLM-5.2: only some layers have an indexer; the others attend to what the last one picked."""
    kinds = c.items("indexer_types", length=layers)
    if kinds is not None:
        return [kind == "shared" for kind in kinds]
    pattern = c.get("index_topk_pattern")
    if isinstance(pattern, str) and len(pattern) == layers:
        return [letter == "S" for letter in pattern]
    step, offset = c.size_or(1, "index_topk_freq"), c.size_or(2, "index_skip_topk_offset", least=0)
    return [max(i - offset + 1, 0) % step != 0 for i in range(layers)]


_RATIOS = {"sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}


def _deepseek_v4(c: ConfigReader) -> Transformer:
    """DeepSeek-V4: shared keys, compressed entries, and `hc_mult` residual streams that each part mixes (mHC)."""
    hidden, layers, streams = c.size(*HIDDEN), c.layers(*LAYERS), c.size_or(4, "hc_mult")
    attention = CompressedAttention(
        heads=c.size(*HEADS),
        head_dim=c.size("head_dim"),
        q_lora_rank=c.size("q_lora_rank"),
        output_groups=c.size("o_groups"),
        output_rank=c.size("o_lora_rank"),
        window=c.size("sliding_window"),
    )
    indexed = replace(
        attention,
        index_heads=c.size("index_n_heads"),
        index_head_dim=c.size("index_head_dim"),
        index_topk=c.size("index_topk"),
    )
    mixers = [replace(indexed if sparse else attention, ratio=ratio) for ratio, sparse in _compressions(c, layers)]
    hashed = c.size_or(3, "num_hash_layers", least=0)  # their experts follow from the token: no balance to keep
    kinds = c.kinds({"hash_moe", "moe"}, "mlp_layer_types", length=layers)
    balanced = [kind == "moe" for kind in kinds] if kinds else [i >= hashed for i in range(layers)]
    width = c.size("moe_intermediate_size")
    part = experts(c, width, shared_intermediate=c.size_or(1, "n_shared_experts", least=0) * width)
    parts = [replace(part, router_bias=learned) for learned in balanced]
    mixing = 2 * ((2 + streams) * streams * (streams * hidden + 1) + 3)
    blocks = stack(Block(count=1, mixer=m, ffn=f, side=mixing) for m, f in zip(mixers, parts, strict=True))
    modules = c.size_or(0, "num_nextn_predict_layers", least=0)
    return transformer(
        c,
        hidden_size=hidden,
        blocks=blocks,
        tied_embeddings=tied(c, False),
        extra_params=modules * multi_token_prediction(replace(blocks[-1], mixer=attention), hidden),
    )


def _compressions(c: ConfigReader, layers: int) -> list[tuple[int, bool]]:
    """Tokens of an entry (0: none) in each layer, and whether an indexer picks among them."""
    rates = c.section("compress_rates")
    usual = {
        kind: rates.size_or(ratio, kind) if rates is not None and ratio else ratio for kind, ratio in _RATIOS.items()
    }
    sparse, heavy = usual["compressed_sparse_attention"], usual["heavily_compressed_attention"]
    kinds = c.kinds(set(_RATIOS), "layer_types", length=layers)
    if kinds is not None:
        return [(usual[kind], kind == "compressed_sparse_attention") for kind in kinds]
    said = c.items("compress_ratios")  # also of the modules of multi-token prediction
    if said is not None:
        if len(said) < layers:
            raise InvalidInputError(f"'compress_ratios' has {len(said)} entries for {layers} layers", where=c.where)
        numbers = per_layer(c.merged({"compress_ratios": said[:layers]}), layers, "compress_ratios", default=0)
        return [(ratio, ratio == sparse) for ratio in numbers]
    c.assume("layer_types", "two heavily compressed layers, then heavily compressed and sparse ones in turn")
    return [(sparse, True) if i >= 2 and i % 2 else (heavy, False) for i in range(layers)]


def _longcat(c: ConfigReader) -> Transformer:
    """LongCat-Flash: each layer has two attentions, two dense parts and one mixture; zero experts compute nothing.

    `experts_per_token` counts real experts in the mean: `moe_topk` choices fall on real and zero experts alike
    (the report's PID control holds about 8 of 12).
    """
    hidden, layers = c.size(*HIDDEN), c.layers("num_layers", "num_hidden_layers")
    attention = latent_attention(c)
    dense = FeedForward(c.size("ffn_hidden_size", "intermediate_size"))
    real, zero = c.size("n_routed_experts"), c.size_or(0, "zero_expert_num", least=0)
    chosen = c.size("moe_topk", "num_experts_per_tok")
    check_experts(c, real + zero, chosen)
    mixture = MixtureOfExperts(
        real, max(1, round(chosen * real / (real + zero))), c.size("expert_ffn_hidden_size"), router_bias=True
    )
    return transformer(
        c,
        hidden_size=hidden,
        blocks=(
            Block(count=2 * layers, mixer=attention, ffn=dense),
            Block(count=layers, ffn=mixture, norms=0),
        ),
        tied_embeddings=tied(c, False),
    )


FAMILIES: dict[str, Family] = {
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "deepseek_v32": _deepseek,
    "deepseek_v4": _deepseek_v4,
    "kimi_k2": _deepseek,
    "glm4_moe_lite": partial(_deepseek, first=1),
    "glm_moe_dsa": _deepseek,
    "minicpm3": _deepseek,
    "mistral4": _deepseek,
    "sarvam_mla": partial(_deepseek, first=1),
    "youtu": _deepseek,
    "axk1": partial(_deepseek, first=1, norms_after=1),
    "longcat_flash": _longcat,
}
