"""Hugging Face configurations: structure read right, mistakes named."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError, WaferlineError
from waferline.workloads.counts import parameter_count
from waferline.workloads.huggingface import from_config, model_types
from waferline.workloads.load import load_model
from waferline.workloads.spec import Attention, LatentAttention, MixtureOfExperts, Transformer

# Every configuration class that transformers 5.23 and we share, as `to_dict()` writes its defaults (nulls and vision
# sections dropped), with the parameters of the model that transformers builds from it.
DEFAULTS = json.loads((Path(__file__).parent / "data" / "transformers_defaults.json").read_text(encoding="utf-8"))

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
}
MIXTRAL = LLAMA | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
DEEPSEEK = LLAMA | {
    "model_type": "deepseek_v3",
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
}


def read(config: Mapping[str, Any]) -> Transformer:
    model = from_config(config, "tiny", "config.json")
    assert isinstance(model, Transformer)
    return model


def windows(model: Transformer) -> list[tuple[int, int | None]]:
    return [(b.count, b.mixer.window) for b in model.blocks if isinstance(b.mixer, Attention)]


@pytest.mark.parametrize("kind", sorted(DEFAULTS))
def test_the_defaults_of_transformers_give_the_model_of_transformers(kind: str) -> None:
    count = parameter_count(from_config(DEFAULTS[kind]["config"], kind, "config.json"))
    assert DEFAULTS[kind]["parameters"] in (count.total, count.total + count.extra)


def test_llama_by_hand() -> None:
    h, ffn, kv = 64, 160, 16
    layer = h * h + 2 * h * kv + h * h + 3 * h * ffn + 2 * h
    assert parameter_count(read(LLAMA)).total == 4 * layer + h + 2 * 1000 * h


def test_head_dim_need_not_divide_hidden_size() -> None:
    mixer = read(LLAMA | {"head_dim": 32}).blocks[0].mixer
    assert isinstance(mixer, Attention)
    assert mixer.head_dim == 32
    assert mixer.kv_elements_per_token == 2 * 2 * 32


def test_tied_embeddings_are_counted_once() -> None:
    tied, untied = read(LLAMA | {"tie_word_embeddings": True}), read(LLAMA)
    assert parameter_count(untied).total - parameter_count(tied).total == 64 * 1000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model_type": "mistral", "sliding_window": 128}, [(4, 128)]),
        ({"model_type": "mistral", "sliding_window": None}, [(4, None)]),
        ({"model_type": "qwen2", "sliding_window": 128, "use_sliding_window": False}, [(4, None)]),
        (
            {"model_type": "qwen2", "sliding_window": 128, "use_sliding_window": True, "max_window_layers": 3},
            [(3, None), (1, 128)],
        ),
        ({"model_type": "gemma2", "sliding_window": 128, "head_dim": 8}, [(2, 128), (2, None)]),
        (
            {"model_type": "gemma3_text", "sliding_window": 128, "num_hidden_layers": 12, "head_dim": 8},
            [(10, 128), (2, None)],
        ),
        (
            {
                "model_type": "gpt_oss",
                "sliding_window": 128,
                "layer_types": ["full_attention", "sliding_attention"] * 2,
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
            },
            [(2, None), (2, 128)],
        ),
    ],
)
def test_windows_follow_the_pattern_of_the_family(change: dict[str, Any], expected: list[tuple[int, int]]) -> None:
    assert windows(read(LLAMA | change)) == expected


def test_llama4_interleaves_experts_and_chunks_attention() -> None:
    text = LLAMA | {
        "model_type": "llama4_text",
        "intermediate_size_mlp": 320,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 2,
        "attention_chunk_size": 256,
        "num_hidden_layers": 8,
    }
    model = read({"model_type": "llama4", "text_config": text, "vision_config": {"hidden_size": 64}})
    assert sum(b.count for b in model.blocks if isinstance(b.ffn, MixtureOfExperts)) == 4
    full = [b.count for b in model.blocks if isinstance(b.mixer, Attention) and b.mixer.window is None]
    assert sum(full) == 2
    assert [tower.kind for tower in model.towers] == ["image"]


def test_deepseek_has_dense_layers_first_and_a_module_apart() -> None:
    model = read(DEEPSEEK | {"num_nextn_predict_layers": 1})
    assert [b.count for b in model.blocks] == [1, 3]
    assert isinstance(model.blocks[0].mixer, LatentAttention)
    assert model.blocks[0].mixer.kv_elements_per_token == 16 + 4
    assert parameter_count(model).total == parameter_count(read(DEEPSEEK)).total
    assert model.extra_params > 0


def test_a_nested_section_inherits_what_is_said_outside() -> None:
    text = {key: value for key, value in DEEPSEEK.items() if key != "vocab_size"} | {"model_type": "kimi_k2"}
    outer = {"model_type": "kimi_k25", "vocab_size": 500, "tie_word_embeddings": True, "text_config": text}
    model = read(outer | {"quantization_config": {"quant_method": "fp8"}})
    assert (model.vocab_size, model.tied_embeddings, model.weight_format) == (500, True, "fp8")


def test_equal_layers_become_one_block() -> None:
    assert [b.count for b in read(MIXTRAL).blocks] == [4]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model_type": "lama"}, UnsupportedError, "llama"),
        ({"model_type": None}, InvalidInputError, "model_type"),
        ({"num_hidden_layers": 0}, InvalidInputError, "num_hidden_layers"),
        ({"num_hidden_layers": -4}, InvalidInputError, "between 1"),
        ({"num_hidden_layers": 10**12}, InvalidInputError, "num_hidden_layers"),
        ({"hidden_size": math.nan}, InvalidInputError, "hidden_size"),
        ({"hidden_size": 64.5}, InvalidInputError, "whole number"),
        ({"hidden_size": "64"}, InvalidInputError, "hidden_size"),
        ({"hidden_size": True}, InvalidInputError, "hidden_size"),
        ({"hidden_size": 65}, InvalidInputError, "not a multiple"),
        ({"num_key_value_heads": 3}, InvalidInputError, "share"),
        ({"num_key_value_heads": 16}, InvalidInputError, "share"),
        ({"tie_word_embeddings": "yes"}, InvalidInputError, "true or false"),
        ({"vocab_size": math.inf}, InvalidInputError, "vocab_size"),
    ],
)
def test_impossible_values_are_named(change: dict[str, Any], error: type[WaferlineError], message: str) -> None:
    with pytest.raises(error, match=message):
        read(LLAMA | change)


def test_more_active_experts_than_there_are() -> None:
    with pytest.raises(InvalidInputError, match="experts"):
        read(MIXTRAL | {"num_experts_per_tok": 9})


def renamed(old: str, new: str) -> dict[str, Any]:
    return {new if key == old else key: value for key, value in LLAMA.items()}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("num_hidden_layers", "num_hiden_layers"),
        ("num_key_value_heads", "num_key_value_head"),
        ("vocab_size", "vocabsize"),
    ],
)
def test_a_misspelt_key_is_named_with_the_right_one(old: str, new: str) -> None:
    with pytest.raises(FileFormatError, match=f"'{new}'.*did you mean '{old}'"):
        read(renamed(old, new))


def test_a_missing_key_is_what_the_class_assumes_and_said_or_named() -> None:
    silent = {key: value for key, value in LLAMA.items() if key != "vocab_size"}
    assert read(silent).vocab_size == 32000 and "vocab_size 32000" in read(silent).notes[0]
    with pytest.raises(FileFormatError, match=r"config\.json: missing key 'vocab_size'"):
        read(silent | {"model_type": "internlm2"})  # no class of transformers'


def test_keys_that_say_nothing_about_sizes_are_left_alone() -> None:
    assert read(LLAMA | {"rope_theta": 1e6, "bos_token_id": 1, "torch_dtype": "bfloat16", "_attn_implementation": "x"})


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(model_types()),
    st.dictionaries(
        st.sampled_from(sorted({*LLAMA, *DEEPSEEK, "text_config", "quantization_config", "layer_types", "ffn_config"})),
        st.recursive(
            st.none() | st.booleans() | st.integers(-10, 10**9) | st.floats() | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=4,
        ),
        max_size=20,
    ),
)
def test_whatever_a_configuration_holds_the_answer_is_a_model_or_a_named_error(kind: str, junk: dict[str, Any]) -> None:
    try:
        model = load_model({**LLAMA, **DEEPSEEK, **junk, "model_type": kind})
    except WaferlineError as error:
        assert "\n" not in str(error)
    else:
        assert parameter_count(model).total > 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.sampled_from([1, 2, 4, 8]), st.integers(1, 4))
def test_parameters_grow_with_every_size(layers: int, width: int, groups: int, experts: int) -> None:
    config = MIXTRAL | {"num_hidden_layers": layers, "hidden_size": 64 * width, "num_key_value_heads": groups}
    config |= {"num_local_experts": 2 * experts, "num_experts_per_tok": experts}
    small = parameter_count(read(config))
    more = parameter_count(read(config | {"num_hidden_layers": layers + 1}))
    wider = parameter_count(read(config | {"intermediate_size": 161}))
    assert more.total > small.total
    assert wider.total - small.total == layers * 2 * experts * 3 * 64 * width
    assert small.active_per_token < small.total


def test_a_type_of_somebodys_own_is_read_by_the_class_that_it_names():
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 100,
    }
    known = from_config({"model_type": "llama", **config}, "known", "x")
    own = from_config({"model_type": "house_brand", "architectures": ["LlamaForCausalLM"], **config}, "own", "x")
    assert isinstance(own, Transformer) and isinstance(known, Transformer)
    assert parameter_count(own) == parameter_count(known)
    assert "model_type 'house_brand' is not known: read as llama after its architectures" in own.notes
    with pytest.raises(UnsupportedError, match="house_brand"):
        from_config({"model_type": "house_brand", "architectures": ["HouseBrandForCausalLM"], **config}, "x", "x")
