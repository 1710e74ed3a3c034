"""Decoders with a mixture of experts and ordinary (grouped-query) attention.

Each family is a row of `ROWS`: how its attention differs from Llama's, how its experts differ from Mixtral's. Sources: the
modelling code of the named `model_type` in huggingface/transformers (v5.24) and the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.counts import multi_token_prediction
from waferline.workloads.families.common import (
    HIDDEN,
    LAYERS,
    WINDOW,
    Family,
    check_experts,
    check_groups,
    every,
    everywhere,
    grouped_heads,
    heads,
    locals_of,
    stack,
    tied,
    transformer,
)
from waferline.workloads.families.dense import Traits, assemble, attentions, base_attention
from waferline.workloads.families.mixture import PER_TOKEN, Mix, experts, ffns, per_layer, router_bias
from waferline.workloads.spec import Attention, Block, FeedForward, MixtureOfExperts, Transformer

_BIAS = ("attention_bias", False)


def sparse(c: ConfigReader, t: Traits, m: Mix) -> Transformer:
    """A decoder of Llama's attention with the traits `t`, and experts with those of `m`."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    model = assemble(c, t, ffns(c, layers, m), hidden)
    modules = c.size_or(0, "num_nextn_predict_layers", least=0)
    return replace(model, extra_params=modules * multi_token_prediction(model.blocks[-1], hidden))


def _llama4(c: ConfigReader) -> Transformer:
    """Llama 4: experts in every `interleave_moe_layer_step`-th layer; chunked attention except every fourth layer."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    queries, width = heads(c, hidden)
    bias = c.flag(False, "attention_bias")
    attention = Attention(
        queries, check_groups(c, queries, c.size("num_key_value_heads")), width, None, True, bias, bias
    )
    expert = c.size("intermediate_size")
    sparse_part = experts(c, expert, shared_intermediate=expert)
    dense = FeedForward(c.size("intermediate_size_mlp"))
    step = c.size_or(1, "interleave_moe_layer_step")
    chosen = c.indices("moe_layers", layers)
    moe = set(range(step - 1, layers, step)) if chosen is None else chosen
    chunk = c.optional("attention_chunk_size")
    local = replace(attention, window=chunk, chunked=chunk is not None)
    blocks = (
        Block(count=1, mixer=local if chunked else attention, ffn=sparse_part if i in moe else dense)
        for i, chunked in enumerate(_chunked(c, layers))
    )
    return transformer(c, hidden_size=hidden, blocks=stack(blocks), tied_embeddings=tied(c, False))


def _chunked(c: ConfigReader, layers: int) -> list[bool]:
    """Layers with positions (1 in `no_rope_layers`) attend in chunks; a layer without them sees everything."""
    kinds = c.kinds({"chunked_attention", "full_attention"}, "layer_types", length=layers)
    if kinds is not None:
        return [kind == "chunked_attention" for kind in kinds]
    flags = c.items("no_rope_layers")
    if flags:
        return [bool(flag) for flag in c.items("no_rope_layers", length=layers) or ()]
    period = c.size_or(4, "no_rope_layer_interval")
    return [(i + 1) % period != 0 for i in range(layers)]


def _dbrx(c: ConfigReader) -> Transformer:
    """DBRX keeps attention and experts in sections of their own."""
    hidden, layers = c.size("d_model"), c.layers("n_layers")
    attn, ffn = c.section("attn_config"), c.section("ffn_config")
    attn = attn if attn is not None else ConfigReader({}, f"{c.where}: attn_config")
    ffn = ffn if ffn is not None else ConfigReader({}, f"{c.where}: ffn_config")
    queries = c.size("n_heads")
    if not attn.said("kv_n_heads"):
        c.assume("attn_config.kv_n_heads", 1)
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


def _pangu(c: ConfigReader) -> Transformer:
    """Pangu Pro MoE: grouped routing, one expert of each group (arXiv:2505.21411, section 2)."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    expert = c.size("moe_intermediate_size")
    shared = c.size_or(0, "shared_expert_intermediate_size", least=0)
    groups = c.size_or(c.size(*PER_TOKEN), "num_expert_groups")
    part = experts(c, expert, shared_intermediate=shared, routed_groups=groups)
    return assemble(c, Traits(qkv_bias=True, out_bias=True, sliding=None), [part] * layers, hidden)


def _laguna(c: ConfigReader) -> Transformer:
    """Laguna: heads that differ from layer to layer, a gate on each, and windows where `layer_types` says."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    t = Traits(qkv_bias=_BIAS, out_bias=_BIAS, qk_norm=True, sliding=_NEVER)
    t = replace(t, head_gate=c.get("gating") not in (None, False))
    numbers = per_layer(c, layers, "num_attention_heads_per_layer", "num_attention_heads")
    mixers = [
        replace(a, heads=n, kv_heads=check_groups(c, n, a.kv_heads))
        for a, n in zip(attentions(c, t, hidden, layers), numbers, strict=True)
    ]
    return assemble(c, t, ffns(c, layers, Mix(router_bias=True, first=1)), hidden, mixers)


def _mimo_v2(c: ConfigReader) -> Transformer:
    """MiMo-V2: wide keys and narrower values; window layers with heads of their own and sinks, in five of six layers."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    t = Traits(qkv_bias=_BIAS)
    full = base_attention(c, t, hidden)
    full = replace(
        full, value_dim=c.size_or(full.head_dim, "v_head_dim"), sinks=c.flag(False, "add_full_attention_sink_bias")
    )
    own = c.size_or(full.heads, "swa_num_attention_heads")
    local = replace(
        full,
        heads=own,
        kv_heads=grouped_heads(c, own, "swa_num_key_value_heads")
        if c.said("swa_num_key_value_heads")
        else _doubled(c, full),
        head_dim=c.size_or(full.head_dim, "swa_head_dim"),
        value_dim=c.size_or(full.v_head_dim, "swa_v_head_dim"),
        window=c.optional(*WINDOW),
        sinks=c.flag(True, "add_swa_attention_sink_bias"),
    )
    pattern = c.items("hybrid_layer_pattern", length=layers)
    slides = (
        locals_of(c, layers, lambda i: i > 0 and (i + 1) % 6 != 0) if pattern is None else [bool(p) for p in pattern]
    )
    model = assemble(c, t, ffns(c, layers, Mix(first=1)), hidden, [local if slide else full for slide in slides])
    modules = c.size_or(0, "num_nextn_predict_layers", least=0)
    return replace(model, extra_params=modules * multi_token_prediction(model.blocks[-1], hidden))


def _doubled(c: ConfigReader, full: Attention) -> int:
    """transformers' MiMo-V2-Flash gives window layers twice the key/value heads where the file does not say."""
    return check_groups(c, full.heads, min(2 * full.kv_heads, full.heads))


def _step3(c: ConfigReader) -> Transformer:
    """Step 3.5 and 3.7 Flash: window layers may have heads of their own (`attention_other_setting`); a gate on each head."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    t = Traits(qk_norm=("use_qk_norm", True), head_gate=("use_head_wise_attn_gate", True), sliding=_NEVER)
    full = base_attention(c, t, hidden)
    other = c.section("attention_other_setting")
    local = full
    if other is not None:
        queries = other.size_or(full.heads, "num_attention_heads")
        local = replace(
            full,
            heads=queries,
            kv_heads=check_groups(
                c, queries, other.size_or(full.kv_heads, "num_attention_groups", "num_key_value_heads")
            ),
            head_dim=other.size_or(full.head_dim, "head_dim"),
        )
    local = replace(local, window=c.optional(*WINDOW))
    mixers = [local if slide else full for slide in locals_of(c, layers, lambda i: i % 4 != 0)]
    return assemble(c, t, ffns(c, layers, Mix(router_bias=True, first=3)), hidden, mixers)


def _minimax_m3(c: ConfigReader) -> Transformer:
    """MiniMax-M3: some layers attend to blocks that a small indexer picks."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    t = Traits(qk_norm=True, sliding=None)
    full = base_attention(c, t, hidden)
    section = c.section("sparse_attention_config")
    old = section if section is not None else ConfigReader({}, f"{c.where}: sparse_attention_config")
    block = old.optional("sparse_block_size") or c.size_or(128, "index_block_size")
    blocks = old.optional("sparse_topk_blocks") or c.size_or(16, "index_topk_blocks")
    near = old.optional("sparse_local_block") or c.size_or(1, "index_local_blocks", least=0)
    picked = replace(
        full,
        index_heads=old.optional("sparse_num_index_heads") or c.size_or(4, "index_n_heads"),
        index_head_dim=old.optional("sparse_index_dim") or c.size_or(128, "index_head_dim"),
        index_topk=block * (blocks + near),
    )
    kinds = c.kinds({"minimax_m3_sparse", "full_attention"}, "layer_types", length=layers)
    flags = old.items("sparse_attention_freq", length=layers)
    chosen = [kind == "minimax_m3_sparse" for kind in kinds] if kinds else [bool(f) for f in flags or [0] * layers]
    return assemble(c, t, ffns(c, layers, Mix()), hidden, [picked if pick else full for pick in chosen])


_NEVER: Callable[[int], bool] = lambda layer: False  # noqa: E731
_QWEN = Traits(qkv_bias=_BIAS, out_bias=_BIAS, qk_norm=True)
_ALTERNATE = Traits(qkv_bias=True, out_bias=True, sinks=True, sliding=lambda layer: layer % 2 == 0)
_PLAIN = Traits(sliding=None)
_GRANITE = Traits(qkv_bias=_BIAS, out_bias=_BIAS, sliding=None)
_SIGMOID = ("moe_router_enable_expert_bias", False)
_ERNIE = ("use_bias", False)

# A decoder of an unknown type, read by its keys alone.
_LLAMA_LIKE = Traits(
    qkv_bias=("attention_bias", "qkv_bias", False),
    out_bias=_BIAS,
    mlp_bias=("mlp_bias", False),
    qk_norm=("use_qk_norm", "qk_norm", False),
)

ROWS: dict[str, tuple[Traits, Mix]] = {
    "mixtral": (Traits(), Mix()),
    "minimax_m2": (replace(_PLAIN, qk_norm_full=True), Mix(router_bias=True)),
    "olmoe": (replace(_GRANITE, qk_norm_full=True), Mix()),
    "flex_olmo": (replace(_GRANITE, qk_norm_full=True), Mix()),
    "granitemoe": (_GRANITE, Mix()),
    "granitemoeshared": (_GRANITE, Mix()),
    "granitemoe_swa": (replace(_GRANITE, sinks=True, sliding=lambda layer: layer % 4 != 0), Mix()),
    "phimoe": (replace(_GRANITE, sliding=everywhere, norm_bias=True, head_bias=("lm_head_bias", False)), Mix()),
    "gpt_oss": (_ALTERNATE, Mix(bias=True, router_bias=True)),
    "qwen2_moe": (Traits(qkv_bias=True), Mix(shared_gate=True)),
    "qwen3_moe": (_QWEN, Mix(shared_gate=True)),
    "glm4_moe": (Traits(qkv_bias=_BIAS, qk_norm=("use_qk_norm", False), sliding=None), Mix(router_bias=router_bias)),
    "aria_text": (_GRANITE, Mix()),
    "bailing_moe": (
        Traits(
            qkv_bias=("use_qkv_bias", False), out_bias=("use_bias", False), qk_norm=("use_qk_norm", False), sliding=None
        ),
        Mix(router_bias=_SIGMOID),
    ),
    "cohere2_moe": (
        Traits(qkv_bias=_BIAS, out_bias=_BIAS, norms=1, parallel=True, tied=True, sliding=every(4)),
        Mix(),
    ),
    "dots1": (_QWEN, Mix()),
    "ernie4_5_moe": (
        Traits(qkv_bias=_ERNIE, out_bias=_ERNIE, tied=True, sliding=None),
        Mix(router_bias=("moe_use_aux_free", True)),
    ),
    "exaone_moe": (Traits(qk_norm=True, sliding=every(4)), Mix(first=1)),
    "flint": (replace(_QWEN, sinks=True, sliding=_NEVER), Mix(first=2)),
    "hunyuan_v1_moe": (replace(_GRANITE, qk_norm=("use_qk_norm", True)), Mix()),
    "hy_v3": (_QWEN, Mix(first=1)),
    "kolibri1": (Traits(qk_norm=True, norms=4, sliding=every(5)), Mix()),
    "mellum": (replace(_QWEN, sliding=_NEVER), Mix()),
    "sarvam_moe": (
        Traits(qkv_bias=("use_qkv_bias", "attention_bias", False), qk_norm=("use_qk_norm", True), sliding=None),
        Mix(first=1),
    ),
    "solar_open": (_GRANITE, Mix()),
}


def _afmoe(c: ConfigReader) -> Transformer:
    """AFMoE (Trinity): gated attention, norms before and after each part, a global layer among every few."""
    period = c.size_or(4, "global_attn_every_n_layers")
    t = replace(_QWEN, output_gate=True, norms=4, sliding=every(period))
    return sparse(c, t, Mix(router_bias=True, first=1))


FAMILIES: dict[str, Family] = {
    **{name: partial(sparse, t=traits, m=mix) for name, (traits, mix) in ROWS.items()},
    "llama_like": partial(sparse, t=_LLAMA_LIKE, m=Mix()),
    "afmoe": _afmoe,
    "dbrx": _dbrx,
    "laguna": _laguna,
    "llama4_text": _llama4,
    "mimo_v2_flash": _mimo_v2,
    "minimax_m3": _minimax_m3,
    "pangu_pro_moe": _pangu,
    "step3p7": _step3,
}
