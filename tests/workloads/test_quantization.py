"""Checkpoints in the formats that they ship in: bytes of the weights against published files, and every scheme read or refused."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError, WaferlineError
from waferline.formats import get_format, resolve
from waferline.machines.hardware import load_hardware
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.workloads.load import load_model
from waferline.workloads.lower import lower_prefill
from waferline.workloads.quantization.methods import METHODS, REFUSED
from waferline.workloads.spec import Transformer
from waferline.workloads.stored import part_bytes
from waferline.workloads.weights import as_shipped

DATA = Path(__file__).parent / "data" / "checkpoints"
LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
LLAMA_2_13B = LLAMA_8B | {
    "hidden_size": 5120,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
    "intermediate_size": 13824,
    "vocab_size": 32000,
}
LLAMA_2_70B = LLAMA_8B | {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "intermediate_size": 28672,
    "vocab_size": 32000,
}


def transformer(source: Any) -> Transformer:
    model = load_model(source)
    assert isinstance(model, Transformer)
    return model


def stored_gb(source: Any) -> float:
    model = transformer(source)
    asked = resolve(model.weight_format or "bf16", lambda fmt: fmt)
    return sum(part_bytes(model, asked).values()) / 1e9


def with_section(section: dict[str, Any], base: dict[str, Any] = LLAMA_8B) -> dict[str, Any]:
    return base | {"quantization_config": section}


# Sizes of published files, of the text model alone.
@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("mlx-4bit.json", 4.52),
        ("mlx-4bit-one-section.json", 4.52),
        ("torchao-int4.json", 5.7),
        ("auto-round-int4.json", 5.73),
        ("auto-round-hybrid.json", 19.6),
        ("compressed-tensors-w8a8.json", 9.08),
        ("compressed-tensors-w8a16.json", 9.08),
        ("compressed-tensors-fp8-kv.json", 9.08),
        ("compressed-tensors-mixed.json", 21.6),
        ("compressed-tensors-ignored-layers.json", 7.69),
        ("compressed-tensors-int4-g32.json", 594),
        ("fp8-blocks.json", 9.08),
        ("gptq-dynamic.json", 7.71),
        ("mxfp4-experts.json", 13.76),
        ("modelopt-beside", 20.7),
    ],
)
def test_bytes_of_checkpoints(name: str, gigabytes: float) -> None:
    assert stored_gb(str(DATA / name)) == pytest.approx(gigabytes, rel=0.02)


# "Provided files" of TheBloke/MythoMax-L2-13B-GPTQ, TheBloke/LLaMA2-13B-Tiefighter-GPTQ, TheBloke/StableBeluga2-70B-GPTQ and
# TheBloke/vigogne-2-70B-chat-GPTQ, whose structures are those of Llama 2.
@pytest.mark.parametrize(
    ("base", "bits", "group", "gigabytes"),
    [
        (LLAMA_2_13B, 4, 128, 7.26),
        (LLAMA_2_13B, 4, 64, 7.51),
        (LLAMA_2_13B, 4, 32, 8.00),
        (LLAMA_2_13B, 8, -1, 13.36),
        (LLAMA_2_13B, 8, 128, 13.65),
        (LLAMA_2_70B, 4, -1, 35.33),
        (LLAMA_2_70B, 4, 128, 36.65),
        (LLAMA_2_70B, 4, 32, 40.66),
        (LLAMA_2_70B, 3, 64, 29.30),
    ],
)
def test_bytes_of_published_gptq_files(base: dict[str, Any], bits: int, group: int, gigabytes: float) -> None:
    section = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": True, "sym": True}
    assert stored_gb(with_section(section, base)) == pytest.approx(gigabytes, rel=0.005)


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        # Checkpoint sizes of arXiv:2508.10925, table 1: 60.8 and 12.8 GiB
        ("gpt-oss-120b", 60.8 * 1.073741824),
        ("gpt-oss-20b", 12.8 * 1.073741824),
    ],
)
def test_bytes_of_catalogue_models_that_ship_quantised(name: str, gigabytes: float) -> None:
    assert stored_gb(name) == pytest.approx(gigabytes, rel=0.01)


# Llama 3.1 8B by hand: weights of linear modules, of embedding and head, of norms; scales of rows are not counted (0.06 %).
_LINEAR, _TABLES, _NORMS = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336), 2 * 128256 * 4096, 65 * 4096
_NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


# Bits of a linear weight, and of one of embedding and head (None: 16, as most schemes leave them).
@pytest.mark.parametrize(
    ("section", "linear", "embedding", "head"),
    [
        (_NF4 | {"bnb_4bit_use_double_quant": True}, 4 + 8 / 64 + 32 / (64 * 256), 16, 16),  # QLoRA, section 3
        (_NF4, 4 + 32 / 64, 16, 16),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8, 16, 16),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, 8, 16, 16),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}, 4 + (16 + 4) / 64, 16, 16),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "lm_head": True}, 4 + 20 / 128, 16, 4 + 20 / 128),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, 4.5, 16, 16),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, 8, 16, 16),
        ({"quant_method": "auto-round", "bits": 2, "group_size": 64, "data_type": "int"}, 2 + (16 + 2) / 64, 16, 16),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head"]},
            4.5,
            16,
            16,
        ),
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"},
            8 + 32 / 128**2,
            16,
            16,
        ),
        ({"group_size": 64, "bits": 3}, 3.5, 3.5, 3.5),  # MLX
        ({"group_size": 32, "bits": 4, "mode": "mxfp4"}, 4.25, 4.25, 4.25),
        ({"quant_method": "exl2", "bits": 4.0, "head_bits": 6}, 4, 16, 6),
        ({"quant_method": "bitnet"}, 2, 16, 16),
    ],
)
def test_bytes_by_hand(section: dict[str, Any], linear: float, embedding: float, head: float) -> None:
    by_hand = (_LINEAR * linear + _TABLES / 2 * (embedding + head) + _NORMS * 16) / 8e9
    assert stored_gb(with_section(section)) == pytest.approx(by_hand, rel=1e-3)


def _group(bits: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind, **more}}


SECTIONS: dict[str, dict[str, Any]] = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "gptq dynamic": {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 128,
        "dynamic": {"+:.*\\.(?:1[0-9])\\..*": {"bits": 8, "group_size": 64}, "-:.*down.*": {}},
    },
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"},
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128], "fmt": "e4m3"},
    "fbgemm": {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]},
    "bitsandbytes": {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "llm_int8_skip_modules": ["lm_head"],
    },
    "compressed-tensors": {
        "quant_method": "compressed-tensors",
        "ignore": ["lm_head", "re:.*layers\\.[01]\\.mlp.*"],
        "config_groups": {"group_0": _group(4, "int", strategy="group", group_size=32, symmetric=True)},
        "kv_cache_scheme": {"num_bits": 8, "type": "float"},
    },
    "modelopt": {
        "quant_method": "modelopt",
        "quant_algo": "NVFP4",
        "group_size": 16,
        "kv_cache_quant_algo": "FP8",
        "exclude_modules": ["lm_head", "model.layers.0*"],
    },
    "modelopt mixed": {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "kv_cache_quant_algo": "FP8",
        "quantized_layers": {
            "model.layers.0.mlp.gate_proj": {"quant_algo": "FP8"},
            "model.layers.1.mlp.down_proj": {"quant_algo": "NVFP4", "group_size": 16},
        },
    },
    "mlx": {
        "bits": 4,
        "group_size": 64,
        "model.layers.0.mlp.gate_proj": {"bits": 8, "group_size": 32},
        "lm_head": False,
    },
    "hqq": {
        "quant_method": "hqq",
        "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}},
        "skip_modules": ["lm_head"],
    },
    "torchao": {
        "quant_method": "torchao",
        "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}},
    },
    "torchao by name": {
        "quant_method": "torchao",
        "quant_type": "int8_dynamic_activation_int8_weight",
        "modules_to_not_convert": ["model.layers.3"],
    },
    "auto-round": {
        "quant_method": "auto-round",
        "bits": 4,
        "group_size": 128,
        "data_type": "int",
        "extra_config": {"model.layers.0.self_attn.q_proj": {"bits": 16}, ".*layers\\.1\\..*": {"bits": 8}},
    },
    "quark": {
        "quant_method": "quark",
        "exclude": ["lm_head", "*self_attn*"],
        "global_quant_config": {
            "weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"},
            "input_tensors": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"},
        },
        "layer_quant_config": {"*down_proj": {"weight": {"dtype": "int4", "qscheme": "per_group", "group_size": 128}}},
    },
    "exl3": {"quant_method": "exl3", "bits": 4.0, "head_bits": 6},
    "bitnet": {"quant_method": "bitnet", "quantization_mode": "offline"},
}


def test_four_bits_leave_head_and_embedding_wide() -> None:
    """Llama-3.1-8B: 6.98 G weights in layers, 1.05 G in head and embedding; bits a weight as each method packs them."""
    layers, ends = 6.979e9, 2 * 128256 * 4096 * 2 / 1e9
    for section, bits in (
        (SECTIONS["gptq"], 4 + 20 / 128),
        (SECTIONS["awq"], 4 + 20 / 128),
        (SECTIONS["bitsandbytes"], 4 + 8 / 64 + 32 / (64 * 256)),
        (SECTIONS["bitsandbytes"] | {"bnb_4bit_use_double_quant": False}, 4 + 32 / 64),
        (SECTIONS["hqq"], 4 + 32 / 64),
        (SECTIONS["torchao"], 4 + 32 / 128),
        (SECTIONS["exl3"] | {"head_bits": 16}, 4.0),
    ):
        assert stored_gb(with_section(section)) == pytest.approx(layers * bits / 8e9 + ends, rel=0.002)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_method_is_answered_on_a_machine(name: str) -> None:
    answer = run(Scenario(model=with_section(SECTIONS[name]), machine="h100", batch=1, prompt=128, output=8))
    assert any("as the checkpoint ships" in note for note in answer.notes)
    assert float(answer.result["weights_bytes"]) < 0.8 * 16.06e9 or "mixed" in name


def test_every_method_of_the_table_is_tried() -> None:
    tried = {str(section.get("quant_method", "mlx")) for section in SECTIONS.values()}
    untried = [method.names[0] for method in METHODS if not tried & set(method.names)]
    assert untried == ["w4afp8", "mxfp4", "eetq", "quanto"]  # gpt-oss from its file; three that a line describes
    assert all(method.reads and method.assumes for method in METHODS)


# What stays wide does so in time, too: its operators run in 16 bits.
@pytest.mark.parametrize(
    ("section", "wide", "narrow"),
    [
        (SECTIONS["gptq"], {"head"}, {"attention.qkv", "ffn.down"}),
        (
            SECTIONS["gptq"] | {"dynamic": {"-:.*self_attn.*": {}}},
            {"head", "attention.qkv", "attention.out"},
            {"ffn.down"},
        ),
        (SECTIONS["awq"] | {"modules_to_not_convert": ["mlp"]}, {"ffn.gate_up", "ffn.down"}, {"attention.qkv"}),
        (SECTIONS["quark"], {"attention.qkv", "attention.out", "head"}, {"ffn.gate_up", "ffn.down"}),
        (SECTIONS["mlx"], {"head"}, {"attention.qkv", "ffn.down"}),
        (SECTIONS["modelopt"] | {"exclude_modules": ["lm_head", "*mlp*"]}, {"ffn.down"}, {"attention.out"}),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": _group(8, "float") | {"targets": ["re:.*down_proj"]}},
            },
            {"attention.qkv", "ffn.gate_up", "head"},
            {"ffn.down"},
        ),
    ],
)
def test_parts_that_stay_wide(section: dict[str, Any], wide: set[str], narrow: set[str]) -> None:
    model = transformer(with_section(section))
    asked = resolve(str(model.weight_format), lambda fmt: fmt)
    operators = lower_prefill(model, batch=1, prompt=128, precision=asked)
    bits: dict[str, set[bool]] = {}
    for op in operators:
        if op.kind == "gemm":
            bits.setdefault(op.name, set()).add(get_format(op.weights).bits >= 16)
            assert get_format(op.weights).bits < 16 or get_format(op.activations).bits >= 16
    assert all(bits[name] == {True} for name in wide)
    assert all(bits[name] == {False} for name in narrow)


def test_llama_cpp_has_files_of_its_own() -> None:
    """gpt-oss-20b as its log shows it: experts in MXFP4, other matrices in Q8_0, 11.27 GiB."""
    asked = {"model": "gpt-oss-20b", "batch": 1, "prompt": 128, "output": 8}
    answer = run(Scenario(machine="m2-max", **asked))
    assert float(answer.result["weights_bytes"]) == pytest.approx(11.27 * 2**30, rel=0.005)
    assert any("all else in q8_0" in note for note in answer.notes)
    assert float(run(Scenario(machine="h100", **asked)).result["weights_bytes"]) == pytest.approx(13.76e9, rel=0.005)


def test_files_of_one_engine_run_in_it() -> None:
    answer = run(Scenario(model=with_section(SECTIONS["exl3"]), machine="rtx-4090", batch=1, prompt=128, output=8))
    assert answer.result.about["engine"] == "exllama"


def test_layers_by_number_are_those_layers() -> None:
    """Two of 32 layers at 16 bits: a sixteenth of the executions, and of the bytes."""
    section = SECTIONS["awq"] | {"modules_to_not_convert": ["model.layers.0", "model.layers.31.self_attn"]}
    model = transformer(with_section(section))
    rows = {(name, fmt): share for name, fmt, share in model.blocks[0].formats}
    assert rows["attention.qkv", "bf16"] == pytest.approx(2 / 32)
    assert rows["ffn.down", "bf16"] == pytest.approx(1 / 32)
    assert rows["ffn.down", "awq"] == pytest.approx(31 / 32)


DEEPSEEK: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 129280,
    "topk_method": "noaux_tc",
}


def test_a_list_of_globs_one_for_each_layer() -> None:
    """nvidia/DeepSeek-V3-0324-NVFP4 (as kept by ai-dynamo/aiconfigurator): attention out layer by layer, experts in."""
    excluded = [f"model.layers.{i}.{part}" for i in range(61) for part in ("self_attn*", "mlp.gate", "input_layernorm")]
    section = {
        "quant_algo": "NVFP4",
        "kv_cache_quant_algo": None,
        "group_size": 16,
        "exclude_modules": [*excluded, "model.layers.61*", "model.embed_tokens", "model.norm", "lm_head"],
    }
    model = transformer(with_section({"producer": {"name": "modelopt"}, "quantization": section}, DEEPSEEK))
    wide = {name for block in model.blocks for name, fmt, share in block.formats if fmt == "bf16" and share == 1}
    assert wide == {"moe.router", *(f"attention.{part}" for part in ("down", "q_up", "kv_up", "out"))}
    experts, attention, ends = 657.6e9, 11.41e9, 2 * 129280 * 7168  # of its 671 G parameters
    assert stored_gb(with_section(section | {"quant_method": "modelopt"}, DEEPSEEK)) == pytest.approx(
        (experts * 4.5 / 8 + (attention + ends) * 2) / 1e9, rel=0.005
    )


def test_experts_in_a_format_of_their_own() -> None:
    """DeepSeek-V4 says `expert_dtype` beside its FP8 section; the W4AFP8 files of others keep experts in 4-bit integers."""
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    assert transformer(with_section(fp8, DEEPSEEK)).weight_format == "fp8_block"
    for source in (
        with_section(fp8, DEEPSEEK) | {"expert_dtype": "fp4"},
        with_section(fp8 | {"quant_method": "w4afp8"}, DEEPSEEK),
    ):
        model = transformer(source)
        assert model.weight_format in ("mxfp4", "int4_g128_sym")
        formats = {name: fmt for name, fmt, _ in model.blocks[-1].formats}
        assert formats["attention.out"] == formats["moe.shared.down"] == "fp8_block"
        assert "moe.experts" not in formats


def test_a_section_beside_wins_over_that_of_the_decoder(tmp_path: Path) -> None:
    """nvidia/Kimi-K2.5-NVFP4 (as kept by ai-dynamo/aiconfigurator) still holds the INT4 section of what it was made from."""
    config = json.loads((DATA / "compressed-tensors-int4-g32.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "hf_quant_config.json").write_text((DATA / "modelopt-beside" / "hf_quant_config.json").read_text())
    assert transformer(tmp_path).weight_format == "nvfp4"


def test_the_count_of_operators_is_kept_when_their_formats_are_split() -> None:
    asked = resolve("bf16", lambda fmt: fmt)
    plain = lower_prefill(transformer(LLAMA_8B), batch=1, prompt=64, precision=asked)
    mixed = transformer(str(DATA / "compressed-tensors-ignored-layers.json"))
    split = lower_prefill(mixed, batch=1, prompt=64, precision=resolve(str(mixed.weight_format), lambda fmt: fmt))
    assert sum(float(op.count) for op in plain) == pytest.approx(sum(float(op.count) for op in split))
    assert sum(float(op.count * op.flops) for op in plain) == pytest.approx(
        sum(float(op.count * op.flops) for op in split)
    )


def test_activations_are_those_of_the_checkpoint() -> None:
    machine = {"machine": "a100", "batch": 1, "prompt": 4096, "output": 8}
    narrow = run(Scenario(model=str(DATA / "compressed-tensors-w8a8.json"), **machine))
    wide = run(Scenario(model=str(DATA / "compressed-tensors-w8a16.json"), **machine))
    assert narrow.result.about["precision"] != wide.result.about["precision"]
    # Matrix products in half the time; attention itself stays in 16 bits.
    assert 0.5 < float(narrow.result["light_ttft_s"] / wide.result["light_ttft_s"]) < 0.6


def test_the_cache_is_that_of_the_checkpoint_unless_somebody_says_else() -> None:
    """Llama-3.1-8B at 8,192 tokens: 512 MiB in FP8, 1,024 MiB in 16 bits."""
    asked = {"machine": "h100", "batch": 1, "prompt": 8191, "output": 1}
    shipped = run(Scenario(model=str(DATA / "compressed-tensors-fp8-kv.json"), **asked))
    assert float(shipped.result["kv_cache_bytes"]) == pytest.approx(512 * 2**20, rel=1e-3)
    assert any("KV cache in fp8" in note for note in shipped.notes)
    for said in ({"kv": "fp16"}, {"precision": "fp8", "kv": "bf16"}):
        other = run(Scenario(model=str(DATA / "compressed-tensors-fp8-kv.json"), **asked, **said))
        assert float(other.result["kv_cache_bytes"]) == pytest.approx(1024 * 2**20, rel=1e-3)


def test_a_precision_that_is_asked_for_wins_and_is_said() -> None:
    checkpoint = str(DATA / "modelopt-nvfp4.json")
    answer = run(Scenario(model=checkpoint, machine="b200", precision="fp8", batch=1, prompt=128, output=8))
    assert float(answer.result["weights_bytes"]) > 70e9
    assert any("the checkpoint ships in nvfp4" in note for note in answer.notes)
    assert not any("ships in" in n for n in run(Scenario(model=checkpoint, machine="b200", precision="nvfp4")).notes)


def test_weights_alone_where_a_machine_lacks_the_units() -> None:
    answer = run(Scenario(model=str(DATA / "modelopt-nvfp4.json"), machine="h100", batch=1, prompt=128, output=8))
    assert float(answer.result["weights_bytes"]) == pytest.approx(42.7e9, rel=0.01)
    assert any("no fp4 units here" in note for note in answer.notes)


def test_other_formats_of_one_checkpoint_keep_the_units_they_have() -> None:
    """NVFP4 and FP8 in one checkpoint, on a machine with FP8 units alone: what is FP8 still multiplies in FP8."""
    fp4 = {"num_bits": 4, "type": "float", "group_size": 16}
    groups = {
        "a": _group(8, "float")
        | {"targets": ["re:.*self_attn.*"], "input_activations": {"num_bits": 8, "type": "float"}},
        "b": _group(4, "float", group_size=16) | {"targets": ["re:.*mlp.*"], "input_activations": fp4},
    }
    model = transformer(with_section({"quant_method": "compressed-tensors", "config_groups": groups}))
    h100, b200 = load_hardware("h100"), load_hardware("b200")
    asked = resolve("w=nvfp4,a=bf16", h100.arithmetic)
    assert as_shipped(model, asked, h100.arithmetic).mixed == (("fp8", "fp8"),)
    assert as_shipped(model, asked, load_hardware("a100").arithmetic).mixed == (("fp8", "bf16"),)
    assert as_shipped(model, resolve("nvfp4", b200.arithmetic), b200.arithmetic).mixed == (("fp8", "fp8"),)


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        ({"quant_method": "gpqt", "bits": 4}, UnsupportedError, "gptq"),
        ({"quant_method": "gptq", "bits": 9}, UnsupportedError, "9-bit"),
        ({"quant_method": "gptq"}, FileFormatError, "bits"),
        ({"quant_method": "gptq", "bits": "4"}, InvalidInputError, "whole number"),
        ({"quant_method": "gptq", "bits": 4, "group_sise": 128}, FileFormatError, "group_size"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 0}, InvalidInputError, "group_size"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"-:(": {}}}, InvalidInputError, "regular expression"),
        ({"bits_and": 4}, FileFormatError, "quant_method"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, UnsupportedError, "quantises none"),
        ({"quant_method": "compressed-tensors", "ignore": ["re:.*"]}, UnsupportedError, "quantises none"),
        (SECTIONS["compressed-tensors"] | {"ignore": ["re:.*"]}, UnsupportedError, "quantises none"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP5"}, UnsupportedError, "NVFP4"),
        (SECTIONS["modelopt"] | {"group_size": 32}, UnsupportedError, "groups of 32"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, FileFormatError, "quantized_layers"),
        ({"quant_method": "torchao", "quant_type": "int4_weight_onl"}, UnsupportedError, "int4weightonly"),
        ({"quant_method": "exl3", "bits": 40.0, "head_bits": 6}, InvalidInputError, "between 1 and 8"),
    ],
)
def test_what_is_not_understood_is_refused(section: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_model(with_section(section))


@pytest.mark.parametrize("method", REFUSED)
def test_methods_that_are_not_read_are_refused_by_name(method: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{method}.*read:.*compressed-tensors"):
        load_model(with_section({"quant_method": method, "bits": 2}))


@pytest.mark.parametrize("key", ["quant_config", "quantisation_config", "quantization_cfg", "quantized"])
def test_a_section_under_another_name_is_no_16_bit_model(key: str) -> None:
    with pytest.raises(FileFormatError, match="quantization_config"):
        load_model(LLAMA_8B | {key: SECTIONS["gptq"]})


def test_sparse_files_are_said() -> None:
    model = transformer(with_section(SECTIONS["compressed-tensors"] | {"format": "marlin-24"}))
    assert "format marlin-24 is counted dense" in model.notes


def test_unknown_keys_are_said() -> None:
    model = transformer(with_section(SECTIONS["gptq"] | {"rotation_of_rows": True}))
    assert any("rotation_of_rows" in note for note in model.notes)


def test_what_is_no_language_model_is_refused_where_it_is_quantised() -> None:
    config = {"_class_name": "PixArtTransformer2DModel", "num_layers": 28, "attention_head_dim": 72, "sample_size": 128}
    load_model(config)
    with pytest.raises(UnsupportedError, match="not read"):
        load_model(config | {"quantization_config": SECTIONS["bitsandbytes"]})


def test_recurrent_layers_go_by_their_own_names() -> None:
    """LFM2 mixes by short convolutions in most layers: attention left at 16 bits leaves those quantised, and the reverse."""
    config = json.loads((DATA / "lfm2.json").read_text())

    def wide(part: str) -> set[str]:
        section = SECTIONS["awq"] | {"modules_to_not_convert": [part]}
        model = transformer(config | {"quantization_config": section})
        return {name for block in model.blocks for name, fmt, _ in block.formats if fmt == "bf16"}

    assert wide("self_attn") == {"attention.qkv", "attention.out"}
    assert wide("conv") == {"mixer.in", "mixer.out"}


def test_targets_that_name_nothing_are_said() -> None:
    groups = {"a": _group(8, "float") | {"targets": ["re:.*self_attm.*"]}, "b": _group(8, "float")}
    model = transformer(with_section({"quant_method": "compressed-tensors", "config_groups": groups}))
    assert any("self_attm" in note for note in model.notes)
    assert not transformer(str(DATA / "compressed-tensors-mixed.json")).notes


def test_mlx_overrides_of_gpt_oss() -> None:
    """Experts in MXFP4, all else in 8-bit groups of 64, layer by layer, as mlx-lm writes it."""
    wide = {"group_size": 64, "bits": 8}
    parts = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.router")
    section = {"group_size": 32, "bits": 4, "mode": "mxfp4", "model.embed_tokens": wide, "lm_head": wide}
    section |= {f"model.layers.{i}.{part}": wide for i in range(24) for part in parts}
    config = json.loads((DATA / "mxfp4-experts.json").read_text()) | {
        "quantization_config": None,
        "quantization": section,
    }
    model = transformer(config)
    assert (model.weight_format, model.notes) == ("mxfp4", ())
    assert model.stored is not None
    assert model.stored.head == model.stored.embedding == "int8_g64_affine"
    formats = {name: fmt for name, fmt, _ in model.blocks[0].formats}
    assert formats == {"attention.qkv": "int8_g64_affine", "attention.out": "int8_g64_affine", "moe.router": "bf16"}


def test_a_section_of_nothing_but_nulls_is_no_16_bit_model() -> None:
    with pytest.raises(FileFormatError, match="quant_method"):
        load_model(with_section({"quant_method": None, "bits": None}))


def test_a_checkpoint_that_keeps_32_bits_is_said() -> None:
    assert any("32 bits" in note for note in transformer(LLAMA_8B | {"torch_dtype": "float32"}).notes)
    assert not any("32 bits" in note for note in transformer(LLAMA_8B | {"torch_dtype": "bfloat16"}).notes)
    quantised = transformer(with_section(SECTIONS["gptq"]) | {"dtype": "float32"})
    assert not any("32 bits" in note for note in quantised.notes)


def test_a_float_checkpoint_has_no_section() -> None:
    assert transformer(LLAMA_8B | {"quantization_config": None}).weight_format is None


# A mutation of a section: what is done to which of its values, however deep.
_WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3.5,
    "",
    "x",
    [],
    {},
    [None],
    {"a": 1},
    10**12,
    10**400,
    float("nan"),
    ["re:("],
)


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        found += _places(value, (*path, key))
    return found


def _mutated(
    section: dict[str, Any], place: tuple[Any, ...], kind: str, wrong: Any, rng: random.Random
) -> dict[str, Any]:
    changed = deepcopy(section)
    parent: Any = changed
    for key in place[:-1]:
        parent = parent[key]
    last = place[-1]
    if kind == "drop":
        del parent[last]
    elif kind == "rename" and isinstance(last, str) and last:
        at = rng.randrange(len(last))
        parent[last[:at] + rng.choice("abcx_") + last[at + 1 :]] = parent.pop(last)
    else:
        parent[last] = wrong
    return changed


@settings(max_examples=400)
@given(
    st.sampled_from(sorted(SECTIONS)),
    st.sampled_from(("drop", "rename", "mistype")),
    st.sampled_from(_WRONG),
    st.randoms(use_true_random=False),
)
def test_no_mutated_section_is_taken_for_a_16_bit_model(name: str, kind: str, wrong: Any, rng: random.Random) -> None:
    """A typed error in one line, or weights that are quantised: never another exception, never 16 bits in silence."""
    place = rng.choice(_places(SECTIONS[name]))
    section = _mutated(SECTIONS[name], place, kind, wrong, rng)
    try:
        model = transformer(with_section(section))
    except WaferlineError as error:
        assert "\n" not in str(error)
        return
    if not section:
        return
    assert model.weight_format is not None
    assert get_format(model.weight_format).bits < 16


def safetensors(path: Path, tensors: dict[str, tuple[str, list[int], int]], data: bool = False) -> None:
    """A file with the header of these tensors (dtype, shape, bytes); the data itself is left out unless asked for."""
    at, entries = 0, {}
    for name, (dtype, shape, size) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(at if data else 0))


def _files_of_llama(scale: float = 1.0) -> dict[str, tuple[str, list[int], int]]:
    rows, columns = 128256, 4096
    tensors = {f"{n}.weight": ("BF16", [rows, columns], 2 * rows * columns) for n in ("model.embed_tokens", "lm_head")}
    each = int(6.979e9 * 4.15625 / 8 / 32 * scale)
    return tensors | {f"model.layers.{i}.mlp.down_proj.qweight": ("I32", [each // 4], each // 4 * 4) for i in range(32)}


def _folder(tmp_path: Path, section: dict[str, Any] | None, tensors: dict[str, tuple[str, list[int], int]]) -> Path:
    (tmp_path / "config.json").write_text(
        json.dumps(LLAMA_8B | ({} if section is None else {"quantization_config": section}))
    )
    safetensors(tmp_path / "model.safetensors", tensors)
    return tmp_path


def test_weights_that_lie_beside_are_those_that_count(tmp_path: Path) -> None:
    folder = _folder(
        tmp_path, SECTIONS["awq"], _files_of_llama() | {"visual.patch_embed.weight": ("BF16", [500], 1000)}
    )
    model = transformer(folder)
    assert stored_gb(folder) == pytest.approx(5.73, rel=0.002)
    assert any("as stored in 1 file" in note for note in model.notes)
    assert not any("structure makes" in note for note in model.notes)
    assert model.weight_bytes_exact is not None
    assert model.weight_bytes_exact["head"] == model.weight_bytes_exact["embedding"] == 2 * 128256 * 4096


def test_files_and_structure_that_disagree_are_said(tmp_path: Path) -> None:
    model = transformer(_folder(tmp_path, SECTIONS["awq"], _files_of_llama(1.2)))
    assert any("the files hold 6.4" in note and "the structure makes 5.7" in note for note in model.notes)


def test_quantised_files_of_a_silent_configuration_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"qweight.*does not say"):
        load_model(_folder(tmp_path, None, _files_of_llama()))


def test_an_index_gives_the_total(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(with_section(SECTIONS["awq"])))
    index = {
        "metadata": {"total_size": 5_730_000_000},
        "weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"},
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert stored_gb(tmp_path) == pytest.approx(5.73, rel=1e-6)
    assert any("index" in note for note in transformer(tmp_path).notes)


@pytest.mark.parametrize(
    "index",
    [
        {"metadata": {"total_size": "5"}},
        {"metadata": {"total_size": True}},
        {"metadata": {"total_size": -1}},
        {"metadata": []},
        {"metadata": {"total_size": 10**400}},
        {"weight_map": {"a": "../../etc/passwd"}},
        {"weight_map": {"a": 5}},
        {},
    ],
)
def test_an_index_that_says_nothing_changes_nothing(tmp_path: Path, index: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(with_section(SECTIONS["awq"])))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert transformer(tmp_path).weight_bytes_exact is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1",
        b"\xff" * 8,
        b"\x02" + bytes(7) + b"[]",
        (9).to_bytes(8, "little") + b'{"a": {}}',
    ],
)
def test_files_that_are_no_safetensors_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"model\.safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "weights"),
    [
        ("quantize_config.json", {"bits": 4, "group_size": 128, "desc_act": False, "sym": True}, "gptq"),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 128, "zero_point": True, "version": "GEMM"}, "awq"),
        ("hf_quant_config.json", {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}, "fp8"),
    ],
)
def test_sections_in_files_of_their_own(tmp_path: Path, file: str, content: dict[str, Any], weights: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    (tmp_path / file).write_text(json.dumps(content))
    assert transformer(tmp_path).weight_format == weights
