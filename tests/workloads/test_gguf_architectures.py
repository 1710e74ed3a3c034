"""Architectures of GGUF files: tensors as llama.cpp's model files name them, held against the same model's configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from waferline.errors import UnsupportedError
from waferline.predict.memory import kv_elements_per_token
from waferline.workloads.counts import parameter_count
from waferline.workloads.gguf.architectures import ARCHITECTURES, UNREAD
from waferline.workloads.huggingface import from_config, model_types
from waferline.workloads.load import load_model
from waferline.workloads.mixers import state_elements_per_sequence
from waferline.workloads.spec import Attention, Transformer

H, FF, VOCAB, HEADS, KV, D, EXPERTS, EXPERT = 64, 96, 128, 4, 2, 16, 4, 24
Shapes = dict[str, tuple[int, ...]]


def write(path: Path, architecture: str, fields: Mapping[str, Any], shapes: Shapes) -> Path:
    """A file of 16-bit zeros; sizes all models share need not be said."""
    writer = gguf.GGUFWriter(path, architecture)
    usual = {"embedding_length": H, "feed_forward_length": FF, "context_length": 512, "attention.head_count": HEADS}
    for key, value in (usual | {"attention.head_count_kv": KV} | dict(fields)).items():
        add = (
            writer.add_array
            if isinstance(value, list)
            else writer.add_bool
            if isinstance(value, bool)
            else writer.add_uint32
        )
        add(f"{architecture}.{key}", value)
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def ends(head: bool = True, **more: tuple[int, ...]) -> Shapes:
    shapes: Shapes = {"token_embd.weight": (VOCAB, H), "output_norm.weight": (H,)}
    return shapes | ({"output.weight": (VOCAB, H)} if head else {}) | {f"{k}.weight": s for k, s in more.items()}


def layers(count: int, *parts: Callable[[int], Shapes]) -> Shapes:
    return {f"blk.{i}.{name}": shape for i in range(count) for part in parts for name, shape in part(i).items()}


def weights(**shapes: tuple[int, ...]) -> Callable[[int], Shapes]:
    return lambda layer: {f"{name}.weight": shape for name, shape in shapes.items()}


def when(chosen: Callable[[int], bool], *parts: Callable[[int], Shapes]) -> Callable[[int], Shapes]:
    return lambda i: {n: s for part in parts for n, s in part(i).items()} if chosen(i) else {}


def biased(part: Callable[[int], Shapes], *names: str) -> Callable[[int], Shapes]:
    """The part with biases of those names, or of all its tensors: one number a row (of a norm: a weight)."""

    def both(layer: int) -> Shapes:
        shapes = part(layer)
        chosen = names or tuple(name.removesuffix(".weight") for name in shapes)
        return shapes | {f"{n}.bias": shapes[f"{n}.weight"][:1] for n in chosen}

    return both


def attention(
    heads: int = HEADS, kv: int = KV, key: int = D, value: int = D, queries: int = 1
) -> Callable[[int], Shapes]:
    return weights(
        attn_norm=(H,), attn_q=(queries * heads * key, H), attn_k=(kv * key, H), attn_v=(kv * value, H),
        attn_output=(H, heads * value),
    )  # fmt: skip


DENSE = weights(ffn_norm=(H,), ffn_gate=(FF, H), ffn_up=(FF, H), ffn_down=(H, FF))
PLAIN = weights(ffn_up=(FF, H), ffn_down=(H, FF))
MOE = weights(
    ffn_norm=(H,), ffn_gate_inp=(EXPERTS, H), ffn_gate_exps=(EXPERTS, EXPERT, H), ffn_up_exps=(EXPERTS, EXPERT, H),
    ffn_down_exps=(EXPERTS, H, EXPERT),
)  # fmt: skip
SHARED = weights(ffn_gate_shexp=(EXPERT, H), ffn_up_shexp=(EXPERT, H), ffn_down_shexp=(H, EXPERT))
QK_NORMS = weights(attn_q_norm=(D,), attn_k_norm=(D,))
MAMBA2 = biased(weights(ssm_in=(2 * 128 + 2 * 2 * 16 + 8, H), ssm_conv1d=(128 + 2 * 2 * 16, 4)), "ssm_conv1d")
MAMBA2_REST: Callable[[int], Shapes] = lambda i: {  # noqa: E731
    "ssm_a": (8, 1), "ssm_d": (8, 1), "ssm_dt.bias": (8,), "ssm_norm.weight": (2, 64), "ssm_out.weight": (H, 128),
}  # fmt: skip
SSM = {"ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.group_count": 2, "ssm.time_step_rank": 8, "ssm.inner_size": 128}
MOE_KEYS = {"expert_count": EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": EXPERT}
CONFIG = {"hidden_size": H, "vocab_size": VOCAB, "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": D}
CONFIG |= {"intermediate_size": FF, "max_position_embeddings": 512, "tie_word_embeddings": False}
EXPERT_CONFIG = {"num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": EXPERT}


def delta(i: int) -> Shapes:
    """Gated delta rule: 2 key heads and 4 value heads of 16."""
    return {
        "attn_norm.weight": (H,), "attn_qkv.weight": (2 * 32 + 64, H), "attn_gate.weight": (64, H),
        "ssm_conv1d.weight": (128, 4), "ssm_a": (4,), "ssm_dt.bias": (4,), "ssm_alpha.weight": (4, H),
        "ssm_beta.weight": (4, H), "ssm_norm.weight": (16,), "ssm_out.weight": (H, 64), "post_attention_norm.weight": (H,),
    }  # fmt: skip


def last_of_four(i: int) -> bool:
    return i % 4 == 3


def not_last_of_four(i: int) -> bool:
    return i % 4 != 3


LINEAR = {
    "ssm.conv_kernel": 4,
    "ssm.state_size": 16,
    "ssm.group_count": 2,
    "ssm.time_step_rank": 4,
    "ssm.inner_size": 64,
}
LINEAR_CONFIG = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16}
LINEAR_CONFIG |= {"linear_value_head_dim": 16, "linear_conv_kernel_dim": 4}
FULL = (attention(queries=2), QK_NORMS, weights(post_attention_norm=(H,)))
FFN = weights(ffn_gate=(FF, H), ffn_up=(FF, H), ffn_down=(H, FF))
BARE_MOE = weights(
    ffn_gate_inp=(EXPERTS, H), ffn_gate_exps=(EXPERTS, EXPERT, H), ffn_up_exps=(EXPERTS, EXPERT, H),
    ffn_down_exps=(EXPERTS, H, EXPERT),
)  # fmt: skip
LATENT = weights(
    attn_norm=(H,), attn_q_a=(32, H), attn_q_a_norm=(32,), attn_q_b=(HEADS * 24, 32), attn_kv_a_mqa=(40, H),
    attn_kv_a_norm=(32,), attn_k_b=(HEADS, 32, 16), attn_v_b=(HEADS, 12, 32), attn_output=(H, HEADS * 12),
)  # fmt: skip
LATENT_KEYS = {"attention.q_lora_rank": 32, "attention.kv_lora_rank": 32, "rope.dimension_count": 8}
LATENT_CONFIG = {"q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12}
EXPS_B: Callable[[int], Shapes] = lambda i: {"exp_probs_b.bias": (EXPERTS,)}  # noqa: E731

Case = tuple[str, dict[str, Any], Shapes, dict[str, Any] | None, int]
# Architecture, header, tensors, the same model's configuration (None: the other door does not say it), and elements of KV
# cache a token, all layers.
CASES: dict[str, Case] = {
    "dense with one key head": (
        "qwen3",
        {"block_count": 2, "attention.head_count_kv": 1},
        ends() | layers(2, attention(kv=1), QK_NORMS, DENSE),
        CONFIG | {"model_type": "qwen3", "num_hidden_layers": 2, "num_key_value_heads": 1},
        2 * 2 * D,
    ),
    "fused projections": (
        "phi3",
        {"block_count": 2},
        ends()
        | layers(
            2,
            weights(attn_norm=(H,), attn_qkv=((HEADS + 2 * KV) * D, H), attn_output=(H, H), ffn_norm=(H,)),
            weights(ffn_up=(2 * FF, H), ffn_down=(H, FF)),
        ),
        CONFIG | {"model_type": "phi3", "num_hidden_layers": 2, "sliding_window": None},
        2 * 2 * KV * D,
    ),
    "norms with biases": (
        "starcoder2",
        {"block_count": 1},
        ends(head=False)
        | {"output_norm.bias": (H,)}
        | layers(1, biased(attention()), biased(PLAIN), biased(weights(ffn_norm=(H,)))),
        CONFIG | {"model_type": "starcoder2", "num_hidden_layers": 1, "tie_word_embeddings": True, "sliding_window": None},
        2 * KV * D,
    ),
    "learned positions": (
        "gpt2",
        {"block_count": 1, "attention.head_count_kv": HEADS},
        ends(head=False, position_embd=(512, H))
        | {"output_norm.bias": (H,)}
        | layers(
            1,
            biased(weights(attn_norm=(H,), attn_qkv=(3 * H, H), attn_output=(H, H), ffn_norm=(H,))),
            biased(PLAIN),
        ),
        {"model_type": "gpt2", "n_embd": H, "n_layer": 1, "n_head": HEADS, "n_inner": FF, "n_positions": 512, "vocab_size": VOCAB},
        2 * H,
    ),
    "norms without weights": (
        "olmo",
        {"block_count": 2},
        {n: s for n, s in (ends() | layers(2, attention(), DENSE)).items() if "norm" not in n},
        CONFIG | {"model_type": "olmo", "num_hidden_layers": 2},
        2 * 2 * KV * D,
    ),
    "sliding windows": (
        "gemma3",
        {"block_count": 6, "attention.sliding_window": 32, "attention.key_length": D},
        ends(head=False)
        | layers(6, attention(), QK_NORMS, DENSE, weights(post_attention_norm=(H,), post_ffw_norm=(H,))),
        CONFIG | {"model_type": "gemma3_text", "num_hidden_layers": 6, "sliding_window": 32, "tie_word_embeddings": True},
        6 * 2 * KV * D,
    ),
    "experts, sinks and biases": (
        "gpt-oss",
        {"block_count": 2, "attention.sliding_window": 128, **MOE_KEYS},
        ends()
        | layers(
            2,
            biased(attention(), "attn_q", "attn_k", "attn_v", "attn_output"),
            weights(attn_sinks=(HEADS,), post_attention_norm=(H,)),
            biased(BARE_MOE, "ffn_gate_inp"),
            lambda i: {f"ffn_{x}_exps.bias": (EXPERTS, EXPERT) for x in ("gate", "up")},
            lambda i: {"ffn_down_exps.bias": (EXPERTS, H)},
        ),
        CONFIG
        | {"model_type": "gpt_oss", "num_hidden_layers": 2, "sliding_window": 128, "num_local_experts": EXPERTS}
        | {"num_experts_per_tok": 2, "intermediate_size": EXPERT},
        2 * 2 * KV * D,
    ),
    "experts beside chunks": (
        "llama4",
        {"block_count": 4, "interleave_moe_layer_step": 2, **MOE_KEYS},
        ends() | layers(4, attention(), when(lambda i: i % 2 == 1, MOE, SHARED), when(lambda i: i % 2 == 0, DENSE)),
        CONFIG
        | {"model_type": "llama4_text", "num_hidden_layers": 4, "interleave_moe_layer_step": 2, "num_local_experts": EXPERTS}
        | {"num_experts_per_tok": 2, "intermediate_size": EXPERT, "intermediate_size_mlp": FF, "attention_chunk_size": 8192},
        4 * 2 * KV * D,
    ),
    "latent attention in two parts": (
        "deepseek2",
        {"block_count": 3, "leading_dense_block_count": 1, **LATENT_KEYS, **MOE_KEYS},
        ends() | layers(3, LATENT, when(lambda i: i == 0, DENSE), when(lambda i: i > 0, MOE, SHARED, EXPS_B)),
        CONFIG
        | {"model_type": "deepseek_v3", "num_hidden_layers": 3, "first_k_dense_replace": 1, "n_routed_experts": EXPERTS}
        | {"num_experts_per_tok": 2, "moe_intermediate_size": EXPERT, "n_shared_experts": 1, "topk_method": "noaux_tc"}
        | LATENT_CONFIG,
        3 * (32 + 8),
    ),
    "an indexer that the next layer shares": (
        "glm-dsa",
        {"block_count": 2, **LATENT_KEYS, "attention.indexer.head_count": 2, "attention.indexer.key_length": 8}
        | {"attention.indexer.top_k": 64},
        ends()
        | layers(
            2,
            LATENT,
            DENSE,
            when(
                lambda i: i == 0,
                weights(**{"indexer.attn_q_b": (16, 32), "indexer.attn_k": (8, H), "indexer.proj": (2, H)}),
                biased(weights(**{"indexer.k_norm": (8,)})),
            ),
        ),
        None,
        2 * (32 + 8),
    ),
    "a layer that predicts": (
        "glm4moe",
        {"block_count": 3, "nextn_predict_layers": 1, **MOE_KEYS},
        ends()
        | layers(3, biased(attention(), "attn_q", "attn_k", "attn_v"), MOE, SHARED, EXPS_B)
        | {"blk.2.nextn.eh_proj.weight": (H, 2 * H), "blk.2.nextn.enorm.weight": (H,)},
        CONFIG
        | {"model_type": "glm4_moe", "num_hidden_layers": 2, "first_k_dense_replace": 0, "n_routed_experts": EXPERTS}
        | {"num_experts_per_tok": 2, "moe_intermediate_size": EXPERT, "n_shared_experts": 1, "scoring_func": "sigmoid"}
        | {"attention_bias": True},
        2 * 2 * KV * D,
    ),
    "gated delta rule": (
        "qwen35",
        {"block_count": 4, "attention.key_length": D, **LINEAR},
        ends() | layers(4, when(not_last_of_four, delta), when(last_of_four, *FULL), FFN),
        CONFIG | {"model_type": "qwen3_5_text", "num_hidden_layers": 4, **LINEAR_CONFIG},
        2 * KV * D,
    ),
    "gated delta rule with experts": (
        "qwen35moe",
        {"block_count": 4, "attention.key_length": D, **LINEAR, **MOE_KEYS, "expert_shared_feed_forward_length": EXPERT},
        ends()
        | layers(
            4, when(not_last_of_four, delta), when(last_of_four, *FULL), BARE_MOE, SHARED, weights(ffn_gate_inp_shexp=(H,))
        ),
        CONFIG
        | {"model_type": "qwen3_5_moe_text", "num_hidden_layers": 4, **LINEAR_CONFIG, **EXPERT_CONFIG}
        | {"shared_expert_intermediate_size": EXPERT},
        2 * KV * D,
    ),
    "one part a layer": (
        "nemotron_h_moe",
        {"block_count": 4, "attention.head_count_kv": [0, KV, 0, 0], "feed_forward_length": [0, 0, FF, 0], **SSM, **MOE_KEYS},
        ends()
        | layers(
            4,
            when(lambda i: i == 0, MAMBA2, MAMBA2_REST, weights(attn_norm=(H,))),
            when(lambda i: i == 1, attention()),
            when(lambda i: i == 2, PLAIN, weights(attn_norm=(H,))),
            when(
                lambda i: i == 3,
                weights(ffn_gate_inp=(EXPERTS, H), ffn_up_exps=(EXPERTS, EXPERT, H), ffn_down_exps=(EXPERTS, H, EXPERT)),
                weights(ffn_up_shexp=(EXPERT, H), ffn_down_shexp=(H, EXPERT), attn_norm=(H,)),
                EXPS_B,
            ),
        ),
        CONFIG
        | {"model_type": "nemotron_h", "hybrid_override_pattern": "M*-E", "num_hidden_layers": 4, "mamba_num_heads": 8}
        | {"mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 2, "conv_kernel": 4, "n_routed_experts": EXPERTS}
        | {"num_experts_per_tok": 2, "moe_intermediate_size": EXPERT, "moe_shared_expert_intermediate_size": EXPERT},
        2 * KV * D,
    ),
    "attention among states": (
        "jamba",
        {"block_count": 2, "attention.head_count_kv": [0, KV], **SSM, **MOE_KEYS, "ssm.time_step_rank": 4},
        ends()
        | layers(
            2,
            when(lambda i: i == 1, attention(), MOE),
            when(
                lambda i: i == 0,
                biased(weights(ssm_in=(256, H), ssm_conv1d=(128, 4)), "ssm_conv1d"),
                weights(ssm_x=(4 + 32, 128), ssm_out=(H, 128), ssm_dt_norm=(4,), ssm_b_norm=(16,), ssm_c_norm=(16,)),
                biased(weights(ssm_dt=(128, 4)), "ssm_dt"),
                lambda i: {"ssm_a": (128, 16), "ssm_d": (128,), "attn_norm.weight": (H,)},
                weights(ffn_norm=(H,), ffn_gate=(EXPERT, H), ffn_up=(EXPERT, H), ffn_down=(H, EXPERT)),
            ),
        ),
        CONFIG
        | {"model_type": "jamba", "num_hidden_layers": 2, "attn_layer_period": 2, "attn_layer_offset": 1}
        | {"expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": EXPERTS, "num_experts_per_tok": 2}
        | {"intermediate_size": EXPERT, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 4}
        | {"head_dim": None},
        2 * KV * D,
    ),
    "two mixers in a layer": (
        "falcon-h1",
        {"block_count": 2, **SSM},
        ends() | layers(2, attention(), MAMBA2, MAMBA2_REST, DENSE),
        CONFIG
        | {"model_type": "falcon_h1", "num_hidden_layers": 2, "mamba_d_ssm": 128, "mamba_d_state": 16, "mamba_d_conv": 4}
        | {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 2, "mamba_rms_norm": True},
        2 * 2 * KV * D,
    ),
    "short convolutions": (
        "lfm2",
        {"block_count": 3, "attention.head_count_kv": [0, 0, KV], "shortconv.l_cache": 3},
        {"token_embd.weight": (VOCAB, H), "token_embd_norm.weight": (H,)}
        | layers(
            3,
            when(
                lambda i: i < 2,
                weights(**{"attn_norm": (H,), "shortconv.in_proj": (3 * H, H), "shortconv.out_proj": (H, H)}),
                weights(**{"shortconv.conv": (H, 3)}),
            ),
            when(lambda i: i == 2, attention(), QK_NORMS),
            DENSE,
        ),
        CONFIG
        | {"model_type": "lfm2", "num_hidden_layers": 3, "conv_L_cache": 3, "full_attn_idxs": [2], "block_ff_dim": FF}
        | {"block_auto_adjust_ff_dim": False, "tie_word_embeddings": True},
        2 * KV * D,
    ),
    "delta attention and latents": (
        "kimi-linear",
        {"block_count": 4, "attention.head_count_kv": [0, 0, 0, HEADS], "kda.head_dim": D, "ssm.conv_kernel": 4}
        | LATENT_KEYS
        | MOE_KEYS,
        ends()
        | layers(
            4,
            when(
                not_last_of_four,
                attention(kv=HEADS),
                lambda i: {f"ssm_conv1d_{x}.weight": (HEADS * D, 1, 4) for x in "qkv"},
                weights(ssm_f_a=(D, H), ssm_f_b=(HEADS * D, D), ssm_g_a=(D, H), ssm_g_b=(HEADS * D, D)),
                weights(ssm_beta=(HEADS, H), ssm_norm=(D,)),
                lambda i: {"ssm_a": (HEADS, 1), "ssm_dt.bias": (HEADS * D,)},
            ),
            when(last_of_four, LATENT),
            MOE,
            SHARED,
            EXPS_B,
        ),
        None,
        32 + 8,
    ),
    "keys and values of earlier layers": (
        "gemma3n",
        {"block_count": 25, "attention.sliding_window": 32},
        ends(head=False, per_layer_token_embd=(VOCAB, 25 * 8), per_layer_model_proj=(25 * 8, H), per_layer_proj_norm=(8,))
        | {"altup_proj.weight": (3, H, H), "altup_unembd_proj.weight": (3, H, H)}
        | layers(
            25,
            attention(),
            QK_NORMS,
            DENSE,
            weights(post_attention_norm=(H,), post_ffw_norm=(H,), inp_gate=(8, H), proj=(H, 8), post_norm=(H,)),
            weights(altup_router=(4, H), altup_router_norm=(H,), altup_correct_coef=(4, 4), altup_predict_coef=(16, 4)),
            weights(laurel_l=(16, H), laurel_r=(H, 16), laurel_post_norm=(H,)),
            lambda i: {"altup_correct_scale.weight": (H,)},
        ),
        CONFIG
        | {"model_type": "gemma3n_text", "num_hidden_layers": 25, "sliding_window": 32, "hidden_size_per_layer_input": 8}
        | {"vocab_size_per_layer_input": VOCAB, "altup_num_inputs": 4, "laurel_rank": 16, "num_kv_shared_layers": 5}
        | {"tie_word_embeddings": True},
        20 * 2 * KV * D,  # layers from the 21st on use the cache of earlier ones
    ),
    "keys that are values": (
        "gemma4",
        {"block_count": 2, "attention.sliding_window": 32, "attention.sliding_window_pattern": [True, False]}
        | {"attention.head_count_kv": [KV, 1], "attention.key_length": 32, "attention.key_length_swa": D},
        ends(head=False)
        | layers(
            2,
            when(lambda i: i == 0, attention(), QK_NORMS),
            when(
                lambda i: i == 1,
                weights(attn_norm=(H,), attn_q=(HEADS * 32, H), attn_k=(32, H), attn_output=(H, HEADS * 32)),
                weights(attn_q_norm=(32,), attn_k_norm=(32,)),
            ),
            DENSE,
            weights(post_attention_norm=(H,), post_ffw_norm=(H,)),
            lambda i: {"layer_output_scale.weight": (1,)},
        ),
        None,
        2 * KV * D + 2 * 32,
    ),
    "values narrower than keys": (
        "mimo2",
        {"block_count": 2, "attention.key_length": 24, "attention.value_length": D, "attention.sliding_window": 32}
        | {"attention.sliding_window_pattern": [True, False], "attention.head_count_kv": [KV, 1], **MOE_KEYS},
        ends()
        | layers(
            2,
            when(lambda i: i == 0, attention(key=24), weights(attn_sinks=(HEADS,))),
            when(
                lambda i: i == 1,
                weights(attn_norm=(H,), attn_qkv=(HEADS * 24 + 24 + D, H), attn_output=(H, HEADS * D)),
            ),
            MOE,
            EXPS_B,
        ),
        None,
        (KV + 1) * (24 + D),
    ),
    "layers that differ": (
        "deci",
        {"block_count": 3, "attention.head_count_kv": [KV, 1, 0], "attention.head_count": [HEADS, HEADS, 0]}
        | {"feed_forward_length": [FF, 48, FF]},
        ends()
        | layers(
            3,
            when(lambda i: i == 0, attention(), DENSE),
            when(lambda i: i == 1, attention(kv=1), weights(ffn_norm=(H,), ffn_gate=(48, H), ffn_up=(48, H), ffn_down=(H, 48))),
            when(lambda i: i == 2, DENSE),
        ),
        None,
        2 * KV * D + 2 * D,
    ),
    "states alone": (
        "rwkv7",
        {"block_count": 2, "wkv.head_size": D},
        ends()
        | {"output_norm.bias": (H,), "token_embd_norm.weight": (H,), "token_embd_norm.bias": (H,)}
        | layers(
            2,
            biased(weights(attn_norm=(H,), attn_norm_2=(H,))),
            weights(**{f"time_mix_{n}": (H, H) for n in ("receptance", "key", "value", "output")}),
            weights(**{f"time_mix_{n}1": (8, H) for n in "wavg"}, **{f"time_mix_{n}2": (H, 8) for n in "wavg"}),
            weights(channel_mix_key=(FF, H), channel_mix_value=(H, FF), time_mix_lerp_fused=(6, 1, 1, H)),
            weights(time_mix_w0=(1, 1, H), time_mix_k_k=(1, 1, H), time_mix_r_k=(HEADS, D), channel_mix_lerp_k=(1, 1, H)),
        ),
        None,
        0,
    ),
    "an encoder": (
        "bert",
        {"block_count": 2, "attention.causal": False},
        {"token_embd.weight": (VOCAB, H), "position_embd.weight": (512, H), "token_types.weight": (2, H)}
        | {"token_embd_norm.weight": (H,), "token_embd_norm.bias": (H,)}
        | layers(
            2,
            biased(weights(attn_q=(H, H), attn_k=(H, H), attn_v=(H, H), attn_output=(H, H))),
            biased(weights(attn_output_norm=(H,), layer_output_norm=(H,))),
            biased(PLAIN),
        ),
        {"model_type": "bert", "hidden_size": H, "num_hidden_layers": 2, "num_attention_heads": HEADS, "intermediate_size": FF}
        | {"max_position_embeddings": 512, "vocab_size": VOCAB, "type_vocab_size": 2},
        2 * 2 * H,
    ),
}  # fmt: skip
CASES["an encoder"][1]["attention.head_count_kv"] = HEADS


def load(path: Path) -> Transformer:
    model = load_model(path)
    assert isinstance(model, Transformer)
    return model


@pytest.mark.parametrize("name", CASES)
def test_every_weight_is_in_the_structure(tmp_path: Path, name: str) -> None:
    architecture, fields, shapes, _, elements = CASES[name]
    model = load(write(tmp_path / "m.gguf", architecture, fields, shapes))
    count = parameter_count(model)
    assert count.total + count.extra == sum(prod(s) for s in shapes.values())
    assert kv_elements_per_token(model) == elements
    assert model.family == ARCHITECTURES[architecture].model_type
    assert model.weight_bytes_exact is not None
    assert model.kind == ARCHITECTURES[architecture].kind
    for block in model.blocks:
        for operator in {op for op, *_ in block.formats}:
            assert sum(share for op, _, share in block.formats if op == operator) == pytest.approx(1.0)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[3] is not None])
def test_both_doors_give_one_model(tmp_path: Path, name: str) -> None:
    architecture, fields, shapes, config, _ = CASES[name]
    assert config is not None
    file = load(write(tmp_path / "m.gguf", architecture, fields, shapes))
    known = from_config({k: v for k, v in config.items() if v is not None}, "m", "config.json")
    assert isinstance(known, Transformer)
    assert parameter_count(file).total == parameter_count(known).total
    assert parameter_count(file).active_per_token == parameter_count(known).active_per_token
    for measure in (windows, states, mixers):
        assert measure(file) == measure(known)


def windows(model: Transformer) -> list[tuple[int | None, int]]:
    found: dict[int | None, int] = {}
    for block in model.blocks:
        for mixer in block.mixers:
            if isinstance(mixer, Attention):
                found[mixer.window] = found.get(mixer.window, 0) + block.count
    return sorted(found.items(), key=str)


def states(model: Transformer) -> int:
    return sum(b.count * state_elements_per_sequence(m) for b in model.blocks for m in b.mixers)


def mixers(model: Transformer) -> set[str]:
    return {type(m).__name__ for b in model.blocks for m in b.mixers}


def test_encoder_and_decoder(tmp_path: Path) -> None:
    def side(stack: str, names: tuple[str, ...], *parts: Callable[[int], Shapes]) -> Shapes:
        square = {f"{name}.weight": (H, H) for name in names}
        return {
            f"{stack}.{i}.{n}": s
            for i in range(2)
            for n, s in (square | {k: v for p in parts for k, v in p(i).items()}).items()
        }

    own = ("attn_q", "attn_k", "attn_v", "attn_o")
    shapes = {"token_embd.weight": (VOCAB, H), "enc.output_norm.weight": (H,), "dec.output_norm.weight": (H,)}
    shapes |= side("enc.blk", own, PLAIN, weights(attn_norm=(H,), ffn_norm=(H,)))
    cross = tuple(f"cross_{name}" for name in own)
    shapes |= side("dec.blk", own + cross, PLAIN, weights(attn_norm=(H,), ffn_norm=(H,), cross_attn_norm=(H,)))
    shapes |= {f"{x}.blk.0.attn_rel_b.weight": (32, HEADS) for x in ("enc", "dec")}
    file = load(write(tmp_path / "m.gguf", "t5", {"block_count": 2, "attention.head_count_kv": HEADS}, shapes))
    known = from_config(
        {
            "model_type": "t5",
            "d_model": H,
            "num_heads": HEADS,
            "d_kv": D,
            "num_layers": 2,
            "d_ff": FF,
            "vocab_size": VOCAB,
        },
        "m",
        "config.json",
    )
    assert file.kind == "encoder-decoder" and file.blocks[0].cross is not None and len(file.encoder) == 1
    assert parameter_count(file).total == parameter_count(known).total == sum(prod(s) for s in shapes.values())


def test_the_table_names_architectures_that_exist() -> None:
    """Those that the package does not list are in llama.cpp's src/llama-arch.cpp."""
    newer = {"cohere2moe", "deepseek32", "deepseek4", "hy_v3", "laguna", "mellum"}
    assert {*ARCHITECTURES, *UNREAD} - newer == set(gguf.MODEL_ARCH_NAMES.values()) - newer
    assert not ARCHITECTURES.keys() & UNREAD.keys()


def test_families_have_one_name_at_both_doors() -> None:
    """Those below are read from GGUF alone: their classes are not in the transformers library, or are older than it."""
    alone = {
        "arctic",
        "bailing_moe_v2",
        "codeshell",
        "deepseek",
        "grok-1",
        "jais",
        "maincoder",
        "neobert",
        "pangu_embedded",
    }
    alone |= {"plamo", "plamo3", "plm", "refact", "rwkv6", "smallthinker", "step3p5"}
    assert {a.model_type for a in ARCHITECTURES.values()} - set(model_types()) <= alone
    assert {a.experts for a in ARCHITECTURES.values() if a.experts} <= set(model_types())


def test_what_is_not_read_says_why(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "dream", {"block_count": 1}, ends() | layers(1, attention(), DENSE))
    with pytest.raises(UnsupportedError, match="'dream' is not read: it fills in all tokens at once"):
        load(path)
