"""Published configurations with keys taken away, misspelt or set to words nobody knows: never a default in silence."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from waferline.catalog.yaml_file import packaged_names, read_packaged
from waferline.errors import WaferlineError
from waferline.workloads.class_defaults import class_defaults, encoder_defaults
from waferline.workloads.huggingface import from_config
from waferline.workloads.spec import ModelSpec

DATA = Path(__file__).parent / "data"
SEED, CASES = 20261129, 160
Key = tuple[str, ...]
# Keys whose absence says something by itself: as many heads as queries, widths that follow from others, parts that are not there.
_ABSENCE = """
num_key_value_heads num_kv_heads kv_n_heads multi_query_group_num head_dim kv_channels v_head_dim swa_head_dim out_hidden_size
intermediate_size ffn_hidden_size max_position_embeddings seq_length n_positions model_max_length sliding_window window_size
num_nextn_predict_layers q_lora_rank index_topk_freq n_shared_experts shared_expert_intermediate_size moe_latent_size
vocab_size_per_layer_input num_global_key_value_heads global_head_dim word_embed_proj_dim quant_method weight_block_size ignore
kv_cache_quant_algo num_key_value_heads_per_layer layer_types mlp_layer_types moe_layers sliding_window_pattern
full_attention_interval moe_layer_freq first_k_dense_replace model_type layer_type attn_type_list full_attn_idxs topk_method
scoring_func rope_type factor original_max_position_embeddings num_decoder_layers image_size num_labels init_pos_emb_height
dual_attention_layers qk_norm projection_size time_step_rank num_experts num_experts_per_token num_shared_experts
block_ffn_dim_multiplier block_ff_dim shared_intermediate_size mlp_ratio no_rope_layers
use_full_rank_gate
"""
ABSENCE_SAYS = frozenset(_ABSENCE.split())


@cache
def configurations() -> dict[str, dict[str, Any]]:
    found = {n: read_packaged(f"models/{n}.yaml").get("config") for n in packaged_names("models")}
    for path in (*DATA.glob("decoders/*.json"), *DATA.glob("checkpoints/*.json")):
        found[path.stem] = json.loads(path.read_text())
    for name in ("transformers_defaults", "multimodal_checkpoints", "transformers_multimodal"):
        for key, value in json.loads((DATA / f"{name}.json").read_text()).items():
            found[f"{name}:{key}"] = value.get("config", value)
    return {name: config for name, config in found.items() if config and _read(config)[0] is not None}


def _read(config: Mapping[str, Any]) -> tuple[ModelSpec | None, str]:
    """What a configuration describes, without what is said of it; and what is said."""
    try:
        spec = from_config(config, "m", "c")
    except WaferlineError as error:
        return None, str(error)
    said = " ".join((*spec.notes, spec.metadata.get("not_counted", "")))
    return replace(spec, notes=(), metadata={}), said


def _keys(config: Mapping[str, Any], place: Key = ()) -> Iterator[Key]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _keys(value, (*place, key))
        else:
            yield (*place, key)


def _with(config: Mapping[str, Any], key: Key, value: Any = None, name: str = "") -> dict[str, Any]:
    """A copy with another value of a key, under another name where one is given; None: without it."""
    made = copy.deepcopy(dict(config))
    inner: Any = made
    for part in key[:-1]:
        inner = inner[part]
    del inner[key[-1]]
    if value is not None:
        inner[name or key[-1]] = value
    return made


def _value(config: Mapping[str, Any], key: Key) -> Any:
    inner: Any = config
    for part in key:
        inner = inner[part]
    return inner


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 or 1
    return value[::-1] if isinstance(value, list) else None


@cache
def cases() -> list[tuple[str, Key]]:
    every = [(name, key) for name, config in configurations().items() for key in _keys(config)]
    return random.Random(SEED).sample(every, CASES)


def _sourced(config: Mapping[str, Any], key: Key) -> bool:
    """Whether the table of a class says what a missing key means."""
    section = _value(config, key[:-1])
    types = [section.get("model_type"), config.get("model_type"), f"{section.get('model_type')}_text"]
    return any(key[-1] in {**class_defaults(str(t)), **encoder_defaults(str(t))} for t in types)


def test_a_missing_key_that_matters_is_said_refused_or_sourced() -> None:
    silent, tried = [], 0
    for name, key in cases():
        config = configurations()[name]
        whole, _ = _read(config)
        value = _value(config, key)
        other = _another(value)
        if other is None or _read(_with(config, key, other))[0] in (None, whole):
            continue
        tried += 1
        without, said = _read(_with(config, key))
        if without is None or value is False or key[-1] in said or key[-1] in ABSENCE_SAYS or _sourced(config, key):
            continue
        silent.append((name, ".".join(key), value))
    assert tried > CASES // 6
    assert not silent


def test_a_misspelt_key_is_no_other_model_in_silence() -> None:
    silent = []
    for name, key in cases():
        config = configurations()[name]
        whole, _ = _read(config)
        if (
            len(key) > 1
            or not class_defaults(str(config.get("model_type")))
            or key[0] in ABSENCE_SAYS
            or len(key[0]) < 8
        ):
            continue
        swapped = key[0][:3] + key[0][4] + key[0][3] + key[0][5:]
        read, said = _read(_with(config, key, _value(config, key), swapped))
        if read not in (None, whole) and key[0] not in said and not isinstance(_value(config, key), bool):
            silent.append((name, key[0]))
    assert not silent


@pytest.mark.parametrize("word", ["layer_types", "mlp_layer_types", "layers_block_type"])
def test_a_layer_of_a_kind_that_nobody_knows_is_refused(word: str) -> None:
    seen = 0
    for config in configurations().values():
        for key in _keys(config):
            kinds = _value(config, key) if key[-1] == word else None
            if kinds and isinstance(kinds[0], str) and key[0] != "vision_config":
                read, said = _read(_with(config, key, ["brand_new", *kinds[1:]]))
                whole, _ = _read(config)
                assert read is None or read == whole, (config.get("model_type"), said)
                seen += read is None
    assert seen or word == "layers_block_type"


@pytest.mark.parametrize(
    "scheme", [{"quant_method": "brand_new"}, {"quant_algo": "brand_new"}, {"bits": 4, "packing": "brand_new"}]
)
def test_a_scheme_that_nobody_knows_is_refused(scheme: dict[str, Any]) -> None:
    for name in ("llama-3-8b", "qwen3-8b", "mixtral-8x7b"):
        read, said = _read({**configurations()[name], "quantization_config": scheme})
        assert read is None, said


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("llama-3-8b", {"num_experts": 8, "num_experts_per_tok": 2}, "'num_experts' is 8, and a llama has no experts"),
        (
            "gemma-4-31b",
            {"num_experts": 128, "top_k_experts": 8, "moe_intermediate_size": 704},
            "gemma4_text has no experts",
        ),
        ("qwen3-8b", {"n_routed_experts": 64}, "has no experts"),
        (
            "llama-3-8b",
            {"engram_layers": [1, 3], "token_mixer_type": "brand_new"},
            "not read: engram_layers, token_mixer_type",
        ),
        ("mixtral-8x7b", {"kv_compression_rank": 64}, "not read: kv_compression_rank"),
    ],
)
def test_structure_that_a_family_does_not_read_is_said_or_refused(name: str, more: dict[str, Any], said: str) -> None:
    config = configurations()[name]
    inner = config.get("text_config")
    changed = {**config, "text_config": {**inner, **more}} if inner else {**config, **more}
    assert said in _read(changed)[1]
    assert "not read:" not in _read(config)[1]
