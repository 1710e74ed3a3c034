"""Decoders of 2025 and 2026 at the door: parameters, cache and state as publishers and engines' logs give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import waferline as wl
from waferline.errors import InvalidInputError, UnknownNameError, UnsupportedError, WaferlineError
from waferline.formats import resolve
from waferline.predict.kv_cache import kept_layers, least_bytes
from waferline.predict.memory import kv_cache_bytes, kv_elements_per_token
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model
from waferline.workloads.lower import lower_decode
from waferline.workloads.spec import Transformer

DATA = Path(__file__).parent / "data" / "decoders"
BF16 = resolve("bf16", lambda fmt: fmt)
MIB = 2.0**20


def _read(name: str) -> Transformer:
    model = load_model(DATA / f"{name}.json")
    assert isinstance(model, Transformer)
    return model


@pytest.mark.parametrize(
    ("name", "parameters", "token_bytes", "fixed_bytes"),
    [
        ("kimi-linear-48b", 49.1e9, 8064, 41.9e6 + 20 * 3 * 4096 * 3 * 4),  # states in fp32, inputs of the convolutions
        ("gemma-4-31b", 30.70e9, 81_920, 819_200 * 1024),
        ("nemotron-nas-small", 1480.62e6, 10_240, 0),
        ("lfm2-1.2b", 1.17e9, 12_288, None),
        ("granite-4.0-h-tiny", 6.94e9, 8_192, None),
        ("command-r7b", 8.03e9, 32_768, 403e6),
        ("ernie-4.5-21b", 21.8e9, 57_344, 0),
        ("qwen3.5-397b", 396.35e9, None, None),
        ("llava-1.5-text", 6.74e9, 524_288, 0),
        ("no-model-type", 8.03e9, 131_072, 0),
        ("kanana-2.1b", 2.09e9, None, None),
        ("qwen3.6-27b", 26.90e9, 65_536, 149.6 * MIB),
    ],
)
def test_sizes_are_those_of_the_publisher(
    name: str, parameters: float, token_bytes: float | None, fixed_bytes: float | None
) -> None:
    model = _read(name)
    assert parameter_count(model).total == pytest.approx(parameters, rel=0.005)
    long, longer = (float(kv_cache_bytes(model, BF16, float(n), 1.0)) for n in (100_000, 100_001))
    if token_bytes is not None:
        assert longer - long == pytest.approx(token_bytes, rel=0.001)
    if fixed_bytes is not None:
        assert long - 100_000 * (longer - long) == pytest.approx(fixed_bytes, rel=0.02, abs=1.0)


# Published: model cards (parameters in all).
CARDS: dict[str, tuple[float, dict[str, Any]]] = {
    "MiniMax-Text-01": (
        456e9,
        {
            "model_type": "minimax", "hidden_size": 6144, "num_hidden_layers": 80, "num_attention_heads": 64,
            "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9216, "num_local_experts": 32,
            "num_experts_per_tok": 2, "vocab_size": 200064, "attn_type_list": [*[0] * 7, 1] * 10, "tie_word_embeddings": False,
        },
    ),
    "SmolLM3-3B": (
        3.08e9,
        {
            "model_type": "smollm3", "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
            "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 128256, "tie_word_embeddings": True,
        },
    ),
    "Falcon-H1-7B": (
        7.59e9,
        {
            "model_type": "falcon_h1", "hidden_size": 3072, "intermediate_size": 12288, "num_hidden_layers": 44,
            "num_attention_heads": 12, "num_key_value_heads": 2, "head_dim": 128, "mamba_d_ssm": 3072, "mamba_n_heads": 24,
            "mamba_d_head": 128, "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_rms_norm": False,
            "vocab_size": 130049, "tie_word_embeddings": False, "projectors_bias": False,
        },
    ),
    "OLMo-3-7B": (
        7.30e9,
        {
            "model_type": "olmo3", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 100278, "tie_word_embeddings": False,
        },
    ),
    "Seed-OSS-36B": (
        36.15e9,
        {
            "model_type": "seed_oss", "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64,
            "num_attention_heads": 80, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 155136,
            "attention_bias": True, "attention_out_bias": False, "tie_word_embeddings": False,
        },
    ),
    "Hunyuan-A13B": (
        80.4e9,
        {
            "model_type": "hunyuan_v1_moe", "hidden_size": 4096, "intermediate_size": 3072, "moe_intermediate_size": [3072] * 32,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "num_experts": 64,
            "moe_topk": [8] * 32, "num_shared_expert": [1] * 32, "vocab_size": 128167, "tie_word_embeddings": True,
            "use_qk_norm": True,
        },
    ),
    "EXAONE-4.0-32B": (
        32.0e9,
        {
            "model_type": "exaone4", "hidden_size": 5120, "intermediate_size": 27392, "num_hidden_layers": 64,
            "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 102400,
            "tie_word_embeddings": False, "sliding_window": 4096, "sliding_window_pattern": "LLLG",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CARDS))
def test_parameters_are_those_of_the_card(name: str) -> None:
    published, config = CARDS[name]
    model = load_model(config)
    assert parameter_count(model).total == pytest.approx(published, rel=0.02)


def test_layers_that_attend_locally_are_those_of_the_file() -> None:
    model = load_model(CARDS["EXAONE-4.0-32B"][1])
    assert isinstance(model, Transformer)
    windows = {getattr(b.mixer, "window", None): b.count for b in model.blocks}
    assert sum(b.count for b in model.blocks if getattr(b.mixer, "window", None) == 4096) == 48 and None in windows


def test_what_is_not_in_the_file_is_said() -> None:
    assert any("hidden_size 4096" in note for note in _read("llava-1.5-text").notes)
    assert any("no model_type" in note for note in _read("no-model-type").notes)
    assert not wl.load_model("llama-3-8b").notes


UNKNOWN = {
    **json.loads((DATA / "no-model-type.json").read_text()),
    "model_type": "novelty",
    "architectures": ["Novelty"],
}


def test_an_unknown_type_is_refused_or_read_as_asked() -> None:
    with pytest.raises(UnsupportedError, match="--assume llama-like"):
        load_model(UNKNOWN)
    model = load_model(UNKNOWN, assume="llama-like")
    assert parameter_count(model).total == pytest.approx(8.03e9, rel=0.001) and "as was asked" in model.notes[0]
    answer = wl.run(wl.Scenario(model=UNKNOWN, machine="h100", assume="llama-like"))
    assert any("as was asked" in note for note in answer.notes)
    with pytest.raises(UnknownNameError, match="llama-like"):
        load_model(UNKNOWN, assume="llama")
    for known in ("llama-3-8b", DATA / "qwen3.6-27b.json"):
        with pytest.raises(InvalidInputError, match="assume would not be read"):
            load_model(known, assume="llama-like")


@pytest.mark.parametrize(
    ("scaling", "context", "rule"),
    [
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            131_072,
            "yarn x4 from 32,768",
        ),
        ({"type": "linear", "factor": 2.0}, 81_920, "linear x2 from 40,960"),
        ({"type": "dynamic", "factor": 2.0}, 81_920, "dynamic x2 from 40,960"),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 40_960, "llama3 from 8,192"),
        ({"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}, 40_960, "longrope"),
        ({"rope_type": "default"}, 40_960, ""),
        (None, 40_960, ""),
    ],
)
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_the_trained_context_is_as_rope_scaling_stretches_it(
    key: str, scaling: dict[str, Any] | None, context: int, rule: str
) -> None:
    model = load_model({**UNKNOWN, "model_type": "qwen3", "max_position_embeddings": 40_960, key: scaling})
    assert isinstance(model, Transformer)
    assert (model.max_positions, model.context_rule) == (context, rule)


CONFIGS = [json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))] + [
    config for _, config in CARDS.values()
]
WRONG = (None, "", "x", -1, 0, 1.5, True, [], {}, [1, 2], {"a": 1}, 1e30, "1" * 400, [None], float("nan"))


@settings(max_examples=300)
@given(data=st.data(), config=st.sampled_from(CONFIGS), how=st.sampled_from(["drop", "mistype", "rename"]))
def test_any_changed_key_is_an_error_or_said(data: st.DataObject, config: dict[str, Any], how: str) -> None:
    nested = [k for k, v in config.items() if isinstance(v, dict) and k.endswith("_config")]
    inside = data.draw(st.sampled_from([None, *nested]))
    target = dict(config if inside is None else config[inside])
    key = data.draw(st.sampled_from(sorted(target)))
    if how == "mistype":
        target[key] = data.draw(st.sampled_from(WRONG))
    elif how == "rename":
        target[f"{key}x"] = target.pop(key)
    else:
        del target[key]
    changed = target if inside is None else {**config, inside: target}
    try:
        model = load_model(changed)
    except WaferlineError as error:
        assert len(str(error).splitlines()) == 1
        return
    count = parameter_count(model).total
    if isinstance(model, Transformer):
        assert kv_elements_per_token(model) >= 0
    before = parameter_count(load_model(config)).total
    silent = how == "drop" and count != before and not model.notes
    # Optional keys of a file decide sizes, too: what is left out then is what the file's class leaves out.
    assert not silent or key in OPTIONAL, (key, count, before)


# Keys whose absence is a statement: no such layers, experts, windows or sharing.
OPTIONAL = {
    "tie_word_embeddings", "attention_bias", "num_nextn_predict_layers", "mlp_bias", "n_shared_experts", "use_qk_norm",
    "num_shared_experts", "moe_num_shared_experts", "num_shared_expert", "head_dim", "num_key_value_heads", "mtp_num_hidden_layers",
    "shared_expert_intermediate_size", "layer_types", "mamba_rms_norm", "block_configs", "attention_out_bias", "num_experts",
    "attention_k_eq_v", "num_global_key_value_heads", "full_attn_idxs",
}  # fmt: skip


# Parameters of the model that transformers 5.24 builds (on the meta device) from each class's own defaults.
BUILT: dict[str, int] = json.loads((DATA.parent / "transformers_counts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", sorted(BUILT))
def test_an_empty_file_of_a_class_is_the_model_that_transformers_builds(kind: str) -> None:
    count = parameter_count(load_model({"model_type": kind}))
    assert BUILT[kind] in (count.total, count.total + count.extra)


def test_an_unknown_mixture_is_read_with_its_experts_when_asked() -> None:
    config = {
        "model_type": "brand_new", "hidden_size": 64, "intermediate_size": 256, "moe_intermediate_size": 32,
        "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "num_experts": 8,
        "num_experts_per_tok": 2, "first_k_dense_replace": 1,
    }  # fmt: skip
    model = load_model(config, assume="llama-like")
    assert parameter_count(model).experts == 3 * 8 * 3 * 64 * 32
    assert any("read as a Llama" in note for note in model.notes)


def test_deepseek_v4_keeps_what_is_published_of_a_million_tokens() -> None:
    """9.62 GiB in 16 bits for the Pro (vLLM's account of the release); the indexer's keys, which engines keep in FP8, apart."""
    model = load_model("deepseek-v4-pro")
    assert isinstance(model, Transformer)
    kept = least_bytes(kept_layers(model, BF16, 1.0, index=False), 2.0**20)
    keys = 30 * 2**20 / 4 * 128 * 2  # 30 layers, an entry for 4 tokens
    assert (kept + keys) / 2**30 == pytest.approx(9.62, abs=0.005)


def test_deepseek_v4_sees_a_window_and_entries() -> None:
    """At twice the length a step reads no more of the sparse layers but their indexer's keys: half of the layers at most."""
    model = load_model("deepseek-v4-flash")
    assert isinstance(model, Transformer)
    read = {
        n: sum(float(op.kv_bytes * op.count) for op in lower_decode(model, batch=1, context=n, precision=BF16))
        for n in (2**19, 2**20)
    }
    entries = (128 + 512) * 512 * 2  # of a sparse layer, whatever the length
    per_token = 21 * 132 / 4 + 20 * 512 * 2 / 128
    fixed = 21 * entries + 22 * 128 * 512 * 2
    for n, found in read.items():
        assert found == pytest.approx(fixed + n * per_token, rel=0.01)


# Parameters of the language model with the encoders of images and audio, as the cards count them.
@pytest.mark.parametrize(("name", "card"), [("gemma-4-e2b", 5.1e9), ("gemma-4-e4b", 8.0e9)])
def test_gemma_4_with_its_encoders(name: str, card: float) -> None:
    assert parameter_count(load_model(name)).with_towers == pytest.approx(card, rel=0.01)
