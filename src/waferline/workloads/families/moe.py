"""Decoders with a mixture of experts and ordinary (grouped-query) attention.

Sources: the modelling code of the named `model_type` in huggingface/transformers (v4.57) and the published checkpoints.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from waferline.errors import UnsupportedError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.counts import layer_count
from waferline.workloads.families.common import (
    HIDDEN,
    LAYERS,
    Family,
    check_experts,
    check_groups,
    heads,
    stack,
    tied,
    transformer,
)
from waferline.workloads.families.dense import Traits, assemble
from waferline.workloads.spec import Attention, Block, FeedForward, Ffn, MixtureOfExperts, Transformer

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk")
_BIAS = ("attention_bias", False)


def experts(c: ConfigReader, intermediate: int, **fields: object) -> MixtureOfExperts:
    """Routed experts of the usual keys."""
    number, active = c.size(*_EXPERTS), c.size(*_PER_TOKEN)
    check_experts(c, number, active)
    return MixtureOfExperts(number, active, intermediate, **fields)  # type: ignore[arg-type]


def _uniform(c: ConfigReader, t: Traits, bias: bool = False, router_bias: bool = False) -> Transformer:
    """Every layer has the same experts: Mixtral, OLMoE, gpt-oss, MiniMax-M2, Granite MoE, Phi-MoE."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    part = experts(c, c.size("intermediate_size"), bias=bias, router_bias=router_bias)
    return assemble(c, t, [part] * layers, hidden)


def _qwen_moe(c: ConfigReader, t: Traits) -> Transformer:
    """Qwen MoE: sparse every `decoder_sparse_step` layers except `mlp_only_layers`; Qwen2 has a gated shared expert."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    if not c.flag(False, "use_sliding_window"):
        t = replace(t, sliding=None)
    return assemble(c, t, qwen_ffns(c, layers), hidden)


def qwen_ffns(c: ConfigReader, layers: int) -> list[Ffn]:
    """The feed-forward part of each layer of a Qwen mixture of experts."""
    shared = c.size_or(0, "shared_expert_intermediate_size", least=0)
    sparse = experts(c, c.size("moe_intermediate_size"), shared_intermediate=shared, shared_gate=shared > 0)
    step = c.size_or(1, "decoder_sparse_step")
    only = c.indices("mlp_only_layers", layers) or set()
    dense_layers = {i for i in range(layers) if i in only or (i + 1) % step}
    intermediate = c.size("intermediate_size") if dense_layers else c.size_or(1, "intermediate_size")
    dense = FeedForward(intermediate)
    return [dense if i in dense_layers else sparse for i in range(layers)]


def _llama4(c: ConfigReader) -> Transformer:
    """Llama 4: experts in every `interleave_moe_layer_step`-th layer; chunked attention except every fourth layer."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    queries, width = heads(c, hidden)
    bias = c.flag(False, "attention_bias")
    attention = Attention(
        queries, check_groups(c, queries, c.size("num_key_value_heads")), width, None, True, bias, bias
    )
    expert = c.size("intermediate_size")
    sparse = experts(c, expert, shared_intermediate=expert)
    dense = FeedForward(c.size("intermediate_size_mlp"))
    step = c.size_or(1, "interleave_moe_layer_step")
    chosen = c.indices("moe_layers", layers)
    moe = set(range(step - 1, layers, step)) if chosen is None else chosen
    chunk = c.optional("attention_chunk_size")
    local = replace(attention, window=chunk, chunked=chunk is not None)
    blocks = (
        Block(count=1, mixer=local if (i + 1) % 4 else attention, ffn=sparse if i in moe else dense)
        for i in range(layers)
    )
    return transformer(c, hidden_size=hidden, blocks=stack(blocks), tied_embeddings=tied(c, False))


def _dbrx(c: ConfigReader) -> Transformer:
    """DBRX keeps attention and experts in sections of their own."""
    hidden, layers = c.size("d_model"), c.layers("n_layers")
    attn, ffn = c.section("attn_config"), c.section("ffn_config")
    attn = attn if attn is not None else ConfigReader({}, f"{c.where}: attn_config")
    ffn = ffn if ffn is not None else ConfigReader({}, f"{c.where}: ffn_config")
    queries = c.size("n_heads")
    attention = Attention(queries, check_groups(c, queries, attn.size_or(1, "kv_n_heads")), hidden // queries)
    number, active = ffn.size("moe_num_experts"), ffn.size("moe_top_k")
    check_experts(ffn, number, active)
    part = MixtureOfExperts(number, active, ffn.size("ffn_hidden_size"))
    attn.finish()
    ffn.finish()
    return transformer(
        c,
        hidden_size=hidden,
        blocks=(Block(count=layers, mixer=attention, ffn=part),),
        tied_embeddings=tied(c, False),
    )


def _glm4_moe(c: ConfigReader) -> Transformer:
    """GLM-4.5: DeepSeek's experts over grouped-query attention."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    qk_norm = c.flag(False, "use_qk_norm")
    t = Traits(qkv_bias=_BIAS, qk_norm=qk_norm, sliding=None)
    model = assemble(c, t, deepseek_ffns(c, layers), hidden)
    modules = c.size_or(0, "num_nextn_predict_layers", least=0)
    return replace(model, extra_params=modules * multi_token_prediction(model.blocks[-1], hidden))


def multi_token_prediction(block: Block, hidden: int) -> int:
    """Parameters of one prediction module: a layer like the last, a 2h → h projection, three norms.

    Its embedding and head are the main model's (DeepSeek-V3 report, section 2.2).
    """
    return layer_count(block, hidden, hidden).total + 2 * hidden * hidden + 3 * hidden


def deepseek_ffns(c: ConfigReader, layers: int) -> list[Ffn]:
    """Dense for the first `first_k_dense_replace` layers, then routed and shared experts (every `moe_layer_freq`)."""
    dense = FeedForward(c.size("intermediate_size"))
    first = c.size_or(0, "first_k_dense_replace", least=0)
    kinds = c.items("mlp_layer_types", length=layers)
    if c.get("n_routed_experts") is None:
        return [dense] * layers
    expert = c.size("moe_intermediate_size")
    bias = c.text("", "topk_method") == "noaux_tc" or c.text("", "scoring_func") == "sigmoid"
    sparse = experts(
        c, expert, shared_intermediate=expert * c.size_or(0, "n_shared_experts", least=0), router_bias=bias
    )
    step = c.size_or(1, "moe_layer_freq")
    if kinds is not None:
        return [sparse if kind == "sparse" else dense for kind in kinds]
    return [sparse if i >= first and i % step == 0 else dense for i in range(layers)]


def _minimax(c: ConfigReader) -> Transformer:
    """MiniMax-M2 calls itself `minimax` in early files, as MiniMax-Text-01 does, which mixes in linear attention."""
    kinds = [*(c.items("layer_types") or ()), *(c.items("attn_type_list") or ())]
    if "linear_attention" in kinds or 0 in kinds:
        raise UnsupportedError("MiniMax-Text-01's lightning attention is not supported", where=c.where)
    return _uniform(c, Traits(qk_norm_full=True, sliding=None), router_bias=True)


def _pangu(c: ConfigReader) -> Transformer:
    """Pangu Pro MoE: grouped routing, one expert of each group (arXiv:2505.21411, section 2)."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    expert = c.size("moe_intermediate_size")
    shared = c.size_or(0, "shared_expert_intermediate_size", least=0)
    groups = c.size_or(c.size(*_PER_TOKEN), "num_expert_groups")
    part = experts(c, expert, shared_intermediate=shared, routed_groups=groups)
    return assemble(c, Traits(qkv_bias=True, out_bias=True, sliding=None), [part] * layers, hidden)


_ALTERNATE = Traits(qkv_bias=True, out_bias=True, sinks=True, sliding=lambda layer: layer % 2 == 0)

FAMILIES: dict[str, Family] = {
    "mixtral": partial(_uniform, t=Traits()),
    "minimax": _minimax,
    "minimax_m2": _minimax,
    "olmoe": partial(_uniform, t=Traits(qkv_bias=_BIAS, out_bias=_BIAS, qk_norm_full=True, sliding=None)),
    "granitemoe": partial(_uniform, t=Traits(qkv_bias=_BIAS, out_bias=_BIAS, sliding=None)),
    "phimoe": partial(
        _uniform, t=Traits(qkv_bias=_BIAS, out_bias=_BIAS, norm_bias=True, head_bias=("lm_head_bias", False))
    ),
    "gpt_oss": partial(_uniform, t=_ALTERNATE, bias=True, router_bias=True),
    "qwen2_moe": partial(_qwen_moe, t=Traits(qkv_bias=True)),
    "qwen3_moe": partial(_qwen_moe, t=Traits(qkv_bias=_BIAS, out_bias=_BIAS, qk_norm=True)),
    "llama4_text": _llama4,
    "dbrx": _dbrx,
    "glm4_moe": _glm4_moe,
    "pangu_pro_moe": _pangu,
}
