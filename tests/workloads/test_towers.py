"""Towers of multimodal models: every parameter, every token, and what is said of what is not counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import InvalidInputError, WaferlineError
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.workloads.counts import parameter_count
from waferline.workloads.families.towers import TEXT, towers_read, with_towers
from waferline.workloads.huggingface import from_config
from waferline.workloads.load import load_model
from waferline.workloads.spec import Transformer

# Multimodal configurations as transformers 5.24 writes their defaults, with the parameters of the model that it builds from
# them: all that is not the language model (`towers`), and all (`parameters`, where the decoder's own defaults agree).
DEFAULTS = json.loads((Path(__file__).parent / "data" / "transformers_multimodal.json").read_text(encoding="utf-8"))

QWEN25_VL_7B = {  # older files: the decoder's keys at the top
    "model_type": "qwen2_5_vl",
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "max_position_embeddings": 128000,
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "patch_size": 14,
    },
}
SMOLVLM_500M = {
    "model_type": "smolvlm",
    "text_config": {
        "model_type": "llama",
        "hidden_size": 960,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
        "head_dim": 64,
        "intermediate_size": 2560,
        "vocab_size": 49280,
    },
    "vision_config": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 512,
        "patch_size": 16,
    },
}
LLAVA_15_7B = {  # the decoder's sizes are those of its class
    "model_type": "llava",
    "text_config": {"model_type": "llama", "max_position_embeddings": 4096, "vocab_size": 32064},
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
    },
}
LLAMA_32_11B_VISION = {
    "model_type": "mllama",
    "text_config": {
        "model_type": "mllama_text_model",
        "hidden_size": 4096,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
        "max_position_embeddings": 131072,
    },
    "vision_config": {
        "model_type": "mllama_vision_model",
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_global_layers": 8,
        "attention_heads": 16,
        "intermediate_size": 5120,
        "vision_output_dim": 7680,
        "image_size": 560,
        "patch_size": 14,
        "max_num_tiles": 4,
    },
}
GEMMA_3_4B = {
    "model_type": "gemma3",
    "mm_tokens_per_image": 256,
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "num_hidden_layers": 34,
        "intermediate_size": 10240,
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 1024,
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
        "vision_use_head": False,
    },
}


def read(config: dict[str, Any]) -> Transformer:
    model = load_model(config)
    assert isinstance(model, Transformer)
    return model


@pytest.mark.parametrize("kind", sorted(DEFAULTS))
def test_the_tower_is_that_of_transformers(kind: str) -> None:
    config = DEFAULTS[kind]["config"]
    # The decoder is another test's matter: the tower needs its width alone.
    width = config.get("text_config", config).get("hidden_size")
    bare = Transformer(name="", title="", family="", hidden_size=width, vocab_size=1, blocks=())
    model = with_towers(bare, config, "config.json")
    assert parameter_count(model).tower == DEFAULTS[kind]["towers"]


@pytest.mark.parametrize("kind", sorted(k for k, v in DEFAULTS.items() if "parameters" in v))
def test_decoder_and_tower_are_the_whole_model(kind: str) -> None:
    model = from_config(DEFAULTS[kind]["config"], kind, "config.json")
    assert parameter_count(model).with_towers == DEFAULTS[kind]["parameters"]


# Parameters of the published checkpoints: of the language model as their cards round them, and of all as transformers 5.24
# builds them.
@pytest.mark.parametrize(
    ("config", "text", "whole"),
    [
        (QWEN25_VL_7B, 7.62e9, 8_292_166_656),
        (SMOLVLM_500M, 0.409e9, 507_482_304),
        (LLAVA_15_7B, 6.74e9, 7_063_427_072),
        (LLAMA_32_11B_VISION, 9.78e9, 10_670_220_835),
        (GEMMA_3_4B, 3.88e9, 4_300_079_472),
    ],
)
def test_published_parameters(config: dict[str, Any], text: float, whole: int) -> None:
    count = parameter_count(read(config))
    assert count.total == pytest.approx(text, rel=0.002)
    assert count.with_towers == whole


# Tokens of one image, as the processors of these models make them.
@pytest.mark.parametrize(
    ("config", "size", "tokens"),
    [
        (QWEN25_VL_7B, "1092x1092", 39 * 39),
        (QWEN25_VL_7B, "1280x720", 46 * 26),
        (SMOLVLM_500M, None, 17 * 64),
        (SMOLVLM_500M, "512x512", 64),
        (GEMMA_3_4B, None, 256),
        (DEFAULTS["llava"]["config"], None, 576),
        (DEFAULTS["mistral3"]["config"], None, 55 * 55 + 55),
        (DEFAULTS["qwen2_audio"]["config"], None, 750),
        (DEFAULTS["voxtral"]["config"], None, 375),
    ],
)
def test_tokens_join_the_prompt(config: dict[str, Any], size: str | None, tokens: int) -> None:
    kind = read(config).towers[0].kind
    asked: dict[str, Any] = {"images" if kind == "image" else "clips": 1}
    base = Scenario(model=config, machine="h100", precision="bf16", prompt=100, output=1)
    plain, seen = run(base).result, run(Scenario(**{**_fields(base), **asked, "image_size": size})).result
    longer = run(Scenario(**{**_fields(base), "prompt": 100 + tokens})).result
    assert float(seen["device_kv_bytes"]) == float(longer["device_kv_bytes"])
    assert float(seen["itl_s"]) == float(longer["itl_s"])
    assert sum(t.tokens for t in read(config).towers) == tokens or size is not None
    assert float(seen["ttft_s"]) > float(longer["ttft_s"]) > float(plain["ttft_s"])


def _fields(scenario: Scenario) -> dict[str, Any]:
    return {name: getattr(scenario, name) for name in ("model", "machine", "precision", "prompt", "output")}


def test_images_of_many_points_are_those_of_one() -> None:
    counts = [0, 1, 3]
    together = run(Scenario(model=LLAMA_32_11B_VISION, machine="h100", images=np.array(counts), output=8)).result
    for i, n in enumerate(counts):
        alone = run(Scenario(model=LLAMA_32_11B_VISION, machine="h100", images=n, output=8)).result
        for name in ("ttft_s", "light_ttft_s", "itl_s", "device_kv_bytes", "ttft_low90_s", "prefill_bottleneck"):
            one, of_many = alone[name], np.broadcast_to(together[name], (3,))[i]
            numeric = np.issubdtype(np.asarray(one).dtype, np.number)  # sums of many points are added in another order
            assert of_many == (pytest.approx(float(one), rel=1e-12) if numeric else one), name


def test_without_an_image_cross_layers_are_left_out() -> None:
    none = run(Scenario(model=LLAMA_32_11B_VISION, machine="h100", precision="bf16", prompt=111, output=1)).result
    one = run(
        Scenario(model=LLAMA_32_11B_VISION, machine="h100", precision="bf16", prompt=111, output=1, images=1)
    ).result
    kv = 2 * 8 * 128 * 2  # of a token in a layer; 112 tokens are seven blocks of vLLM's
    assert float(none["device_kv_bytes"]) == 32 * kv * 112
    assert float(one["device_kv_bytes"]) == 32 * kv * 112 + 8 * kv * 4 * 1601  # four tiles, a class row each


def test_weights_hold_the_tower_at_16_bits_whatever_the_decoder_is_in() -> None:
    answer = run(Scenario(model=QWEN25_VL_7B, machine="h100", precision="int4"))
    text = read({k: v for k, v in QWEN25_VL_7B.items() if k != "vision_config"} | {"model_type": "qwen2"})
    plain = run(Scenario(model=text, machine="h100", precision="int4"))
    difference = float(answer.result["weights_bytes"]) - float(plain.result["weights_bytes"])
    assert difference == 2 * parameter_count(read(QWEN25_VL_7B)).tower


def test_a_tower_is_said_with_and_without_images() -> None:
    without, with_one = (run(Scenario(model=QWEN25_VL_7B, machine="h100", images=n)).notes for n in (None, 1))
    assert any("0.68 G parameters" in note and "--images" in note for note in without)
    assert any("1,369 tokens" in note for note in with_one)


def test_sizes_that_a_section_leaves_to_its_class_are_said() -> None:
    notes = run(Scenario(model=LLAVA_15_7B, machine="h100")).notes
    assert any("hidden_size 4096" in n and "intermediate_size 11008" in n for n in notes)


def test_a_tower_that_is_not_known_is_said() -> None:
    strange = QWEN25_VL_7B | {"vision_config": {"model_type": "eye_of_newt"}, "model_type": "qwen2"}
    assert any("eye_of_newt" in note for note in run(Scenario(model=strange, machine="h100")).notes)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"mm_vision_tower": "openai/clip-vit-large-patch14-336"}, "mm_vision_tower"),
        ({"visual": {"width": 1664, "layers": 48}}, "visual"),
        ({"model_type": "qwen2_vl"}, "no section"),
    ],
)
def test_a_tower_that_stands_elsewhere_is_said(extra: dict[str, Any], said: str) -> None:
    config = {k: v for k, v in QWEN25_VL_7B.items() if k != "vision_config"} | {"model_type": "qwen2"} | extra
    assert any(said in note for note in run(Scenario(model=config, machine="h100")).notes)


def test_images_are_refused_where_nothing_sees_them() -> None:
    with pytest.raises(InvalidInputError, match="images would not be read"):
        run(Scenario(model="llama-3-8b", machine="h100", images=1))
    with pytest.raises(InvalidInputError, match="scales every image"):
        run(Scenario(model=GEMMA_3_4B, machine="h100", images=1, image_size="640x480"))
    with pytest.raises(InvalidInputError, match="WIDTHxHEIGHT"):
        run(Scenario(model=QWEN25_VL_7B, machine="h100", images=1, image_size="big"))


def test_the_list_of_what_is_read_names_every_multimodal_type() -> None:
    listed = {row["model_type"] for row in towers_read()}
    assert {name for name in TEXT if not name.endswith("_text")} <= listed
    assert all(row["assumes"] for row in towers_read())


def _mutations(config: dict[str, Any], draw: Any) -> dict[str, Any]:
    """`config` with a few keys of its sections dropped or given another value."""
    sections = [key for key, value in config.items() if isinstance(value, dict)]
    changed = {key: dict(value) if key in sections else value for key, value in config.items()}
    for _ in range(draw(st.integers(1, 3))):
        place = changed[draw(st.sampled_from(sections))]
        key = draw(st.sampled_from(sorted(place)))
        if draw(st.booleans()):
            place.pop(key)
        else:
            place[key] = draw(_JUNK)
        if not place:
            break
    return changed


_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**9),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(0, 9), max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(DEFAULTS)), st.data())
def test_whatever_a_section_holds_the_answer_is_a_model_or_a_named_error(kind: str, data: st.DataObject) -> None:
    config = _mutations(DEFAULTS[kind]["config"], data.draw)
    try:
        model = load_model(config)
    except WaferlineError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(model, Transformer)
        assert model.towers or model.metadata["not_counted"]
        assert all(tower.params > 0 and tower.tokens > 0 for tower in model.towers)


def test_llama_cpp_loads_a_tower_for_images_alone() -> None:
    text, seen = (
        run(Scenario(model="gemma-3-4b", machine="m2-ultra", engine="llama.cpp", images=n)) for n in (None, 1)
    )
    more = float(seen.result["weights_bytes"]) - float(text.result["weights_bytes"])
    assert more == 2 * parameter_count(load_model("gemma-3-4b")).tower
    assert any("not part of this answer" in note for note in text.notes)


# Parameters of the whole checkpoint, as its publisher counts them.
@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("llama-4-scout", 108_641_793_536),
        ("llama-4-maverick", 401_583_781_376),
        ("gemma-3-4b", 4_300_079_472),
        ("gemma-3-12b", 12_187_325_040),
        ("gemma-3-27b", 27_432_406_640),
        ("llava-1.5-7b", 7_063_427_072),
        ("qwen2.5-vl-7b", 8_292_166_656),
        ("smolvlm-500m", 507_482_304),
    ],
)
def test_whole_checkpoints_of_the_catalogue(name: str, whole: int) -> None:
    assert parameter_count(load_model(name)).with_towers == whole


# Structures of published checkpoints, with the parameters of their files: exactly, or as a card rounds them.
CHECKPOINTS = json.loads((Path(__file__).parent / "data" / "multimodal_checkpoints.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(CHECKPOINTS))
def test_published_checkpoints(name: str) -> None:
    counted, published = (
        parameter_count(load_model(CHECKPOINTS[name]["config"])).with_towers,
        CHECKPOINTS[name]["parameters"],
    )
    assert counted == published if isinstance(published, int) else counted == pytest.approx(published, rel=0.001)
    assert "not_counted" not in load_model(CHECKPOINTS[name]["config"]).metadata
