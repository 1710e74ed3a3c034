"""What the matrices of a layer are called in checkpoints, by the operator that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from waferline.workloads.spec import Attention, Block, LinearAttention, Recurrent

_STACKS = ("model.layers", "model.language_model.layers", "language_model.model.layers")
_STACKS_OF = {
    "nemotron_h": ("backbone.layers", "model.layers"),
    "mamba": ("backbone.layers",),
    "mamba2": ("backbone.layers",),
    "gpt2": ("transformer.h",),
    "gpt_bigcode": ("transformer.h",),
    "gptj": ("transformer.h",),
    "falcon": ("transformer.h",),
    "bloom": ("transformer.h",),
    "gpt_neox": ("gpt_neox.layers",),
    "mpt": ("transformer.blocks",),
    "dbrx": ("transformer.blocks",),
    "opt": ("model.decoder.layers",),
}
_ENCODERS = ("model.encoder.layers", "encoder.layer", "encoder.block", "encoder.layers")

_SELF = ("self_attn", "attention", "attn", "self_attention", "mixer")
_LINEAR = ("linear_attn", "self_attn", "mixer")
_STATE = ("mixer", "mamba", "mamba_mixer")
_CROSS = ("encoder_attn", "cross_attn", "crossattention", "EncDecAttention")
_DENSE = ("mlp", "feed_forward", "ffn", "mixer", "feedforward")
_SPARSE = ("mlp", "block_sparse_moe", "feed_forward", "mixer", "ffn")

_QKV = ("qkv_proj", "query_key_value", "Wqkv", "c_attn", "wqkv", "W_pack")
_GATE_UP = ("gate_up_proj", "input_linear", "w13")
_GATE = ("gate_proj", "w1", "w3", "linear_1", *_GATE_UP)
_UP = ("up_proj", "w3", "w1", "fc1", "c_fc", "dense_h_to_4h", "v1", *_GATE_UP)
_DOWN = ("down_proj", "w2", "fc2", "c_proj", "dense_4h_to_h", "output_linear")
_SHARED = ("shared_experts", "shared_expert", "shared_mlp")
_ROUTED = ("experts.0", "experts", "switch_mlp")  # the last as MLX stacks them

# Operator → its modules: (where they stand, what they are called), the first spelling being the usual one.
Spelling = tuple[Sequence[str], Sequence[str]]
_MODULES: Mapping[str, tuple[Spelling, ...]] = {
    "attention.qkv": tuple((_SELF, (f"{x}_proj", *_QKV, f"w{x}")) for x in "qkv"),
    "attention.out": ((_SELF, ("o_proj", "out_proj", "dense", "c_proj", "wo")),),
    "attention.down": (
        (_SELF, ("q_a_proj", "fused_qkv_a_proj_with_mqa")),
        (_SELF, ("kv_a_proj_with_mqa", "fused_qkv_a_proj_with_mqa")),
    ),
    "attention.q_up": ((_SELF, ("q_b_proj", "q_proj")),),
    **{f"attention.{name}": ((_SELF, ("kv_b_proj",)),) for name in ("kv_up", "q_absorb", "v_up")},
    "attention.index_q": ((("self_attn.indexer", "indexer"), ("wq_b",)),),
    "attention.index_k": ((("self_attn.indexer", "indexer"), ("wk", "weights_proj")),),
    "mixer.low_rank": ((("self_attn", "attention", "mixer"), ("f_b_proj", "g_b_proj", "f_a_proj")),),
    "cross.q": ((_CROSS, ("q_proj",)),),
    "cross.kv": ((_CROSS, ("k_proj",)), (_CROSS, ("v_proj",))),
    "cross.out": ((_CROSS, ("out_proj", "o_proj")),),
    "mixer.in": ((_STATE, ("in_proj",)),),
    "mixer.x": ((_STATE, ("x_proj",)),),
    "mixer.dt": ((_STATE, ("dt_proj",)),),
    "mixer.out": (((*_STATE, "linear_attn", "self_attn"), ("out_proj", "o_proj")),),
    "ffn.gate_up": ((_DENSE, _GATE), (_DENSE, _UP)),
    "ffn.up": (((*_DENSE, ""), _UP),),
    "ffn.down": (((*_DENSE, ""), _DOWN),),
    **{
        f"moe.{part}": tuple(
            (tuple(f"{place}.{group}".strip(".") for place in _SPARSE for group in groups), leaves)
            for leaves in matrices
        )
        for part, groups, matrices in (
            ("experts", _ROUTED, (_GATE, _UP, _DOWN)),
            ("shared.gate_up", _SHARED, (_GATE, _UP)),
            ("shared.up", _SHARED, (_UP,)),
            ("shared.down", _SHARED, (_DOWN,)),
        )
    },
    "moe.router": ((_SPARSE, ("gate", "router", "router.layer", "shared_expert_gate", "gate.wg")),),
    "moe.latent_down": ((_SPARSE, ("fc1_latent_proj",)),),
    "moe.latent_up": ((_SPARSE, ("fc2_latent_proj",)),),
}
# One matrix in lowering, several in checkpoints that keep them apart: Qwen3.5's gated delta rule.
_LINEAR_IN: tuple[Spelling, ...] = (
    (_LINEAR, ("in_proj_qkv", "in_proj_qkvz", "q_proj")),
    (_LINEAR, ("in_proj_z", "in_proj_qkvz", "g_proj")),
    (_LINEAR, ("in_proj_b", "in_proj_ba", "b_proj")),
    (_LINEAR, ("in_proj_a", "in_proj_ba", "f_a_proj")),
)
# Mixers of other kinds stand where attention does, but in LFM2 (conv), RecurrentGemma and xLSTM.
_RECURRENT = ("self_attn", "conv", "attention", "temporal_block", "mlstm_layer")
_RECURRENT_OF = {"lfm2": "conv", "recurrent_gemma": "temporal_block", "xlstm": "mlstm_layer"}
ALWAYS_WIDE = ("moe.router",)
# Families whose feed-forward parts are called `mlp` and nothing else, by the start of their names.
_MLP = (
    "llama",
    "qwen",
    "mistral",
    "gemma",
    "phi3",
    "glm",
    "deepseek",
    "kimi",
    "gpt_oss",
    "olmo",
    "ernie",
    "smollm",
    "seed",
)
_NOT_MLP = frozenset(["llama4_text", "kimi_linear"])
_ELSEWHERE = ("feed_forward", "ffn", "feedforward", "block_sparse_moe")


def modules(block: Block, operator: str) -> tuple[tuple[Spelling, float], ...]:
    """The modules that `operator` of `block` reads, each with its share of the operator's weights."""
    if operator == "mixer.in" and isinstance(block.mixer, LinearAttention):
        return _shared(_LINEAR_IN, _linear_widths(block.mixer))
    if operator in ("mixer.in", "mixer.out") and isinstance(block.mixer, Recurrent):
        leaves = (
            ("in_proj", "q_proj", "qkv_proj", "receptance")
            if operator == "mixer.in"
            else ("out_proj", "o_proj", "output")
        )
        return (((_RECURRENT, leaves), 1.0),)
    found = _MODULES.get(operator) or ((("self_attn", "mlp", ""), (operator.rpartition(".")[2],)),)
    if operator == "attention.qkv" and isinstance(block.mixer, Attention):
        a = block.mixer
        return _shared(found, (a.heads * (2 if a.output_gate else 1), a.kv_heads, a.kv_heads))
    return _shared(found, (1,) * len(found))


def _linear_widths(a: LinearAttention) -> tuple[int, ...]:
    keys, values = a.key_heads * a.key_dim, a.value_heads * a.value_dim
    return (2 * keys + values, values, a.value_heads, a.value_heads)


def _shared(spellings: Sequence[Spelling], widths: Sequence[int]) -> tuple[tuple[Spelling, float], ...]:
    return tuple((s, w / sum(widths)) for s, w in zip(spellings, widths, strict=True))


def names(family: str, spelling: Spelling, layer: int, *, method: str, encoder: bool = False) -> list[str]:
    """Every name that the module may have in layer `layer` of a checkpoint of this family and method."""
    stacks = _ENCODERS if encoder else _STACKS_OF.get(family, _STACKS)
    places, leaves = spelling
    stacked = method == "mlx"
    there = [p for p in _usual(family, places) if stacked or not p.endswith("switch_mlp")]
    inside = [f"{place}.{leaf}".strip(".") for place in there for leaf in leaves]
    return [f"{stack}.{layer}.{name}" for stack in stacks for name in inside]


def _usual(family: str, places: Sequence[str]) -> Sequence[str]:
    """The places that a family uses: Nemotron-H calls every part of a layer a mixer, and most call the dense part `mlp`."""
    if places is _RECURRENT:
        own = next((place for start, place in _RECURRENT_OF.items() if family.startswith(start)), None)
        return (own,) if own else ("self_attn", "attention")
    if family == "nemotron_h":
        found = [p for p in places if p.partition(".")[0] == "mixer"]
    elif family.startswith(_MLP) and family not in _NOT_MLP:
        found = [p for p in places if p.partition(".")[0] not in ("mixer", *_ELSEWHERE)]
    else:
        found = [p for p in places if p.partition(".")[0] != "mixer"]
    return found or places


def head_names() -> Iterator[str]:
    yield from ("lm_head", "output", "language_model.lm_head", "model.lm_head")


def embedding_names() -> Iterator[str]:
    yield from ("model.embed_tokens", "model.language_model.embed_tokens", "language_model.model.embed_tokens")
