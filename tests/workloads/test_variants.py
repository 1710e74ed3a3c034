"""Names of repositories that say a format are the catalogue's model in that format."""

from __future__ import annotations

import pytest

from waferline.errors import UnknownNameError
from waferline.formats import resolve
from waferline.workloads.load import load_model
from waferline.workloads.spec import Transformer
from waferline.workloads.stored import part_bytes


def variant(name: str) -> Transformer:
    model = load_model(name)
    assert isinstance(model, Transformer)
    return model


# Sizes in GB of published files, where one was read.
@pytest.mark.parametrize(
    ("name", "model", "weights", "gigabytes"),
    [
        ("Qwen/Qwen3-32B-FP8", "qwen3-32b", "fp8_block", None),
        ("Qwen/Qwen3-32B-AWQ", "qwen3-32b", "awq", None),
        ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4", "qwen2.5-72b", "gptq", None),
        ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int8", "qwen2.5-72b", "int8_g128", None),
        ("hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4", "llama-3.1-70b", "awq", None),
        ("mlx-community/Qwen3-8B-4bit", "qwen3-8b", "int4_g64_affine", None),
        ("mlx-community/Llama-3.3-70B-Instruct-4bit", "llama-3.3-70b", "int4_g64_affine", None),
        ("mlx-community/Qwen3-30B-A3B-4bit-DWQ", "qwen3-30b-a3b", "int4_g64_affine", None),
        ("nvidia/Llama-3.3-70B-Instruct-NVFP4", "llama-3.3-70b", "nvfp4", None),
        ("neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8", "llama-3.1-8b", "fp8", 9.08),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16", "llama-3.1-8b", "int4_g128_sym", None),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "llama-3.1-8b", "int8", 9.08),
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "llama-3.1-8b", "nf4", None),
        ("Qwen/Qwen3-8B-GGUF", "qwen3-8b", "q4_k_m", None),
        ("Qwen/Qwen3-8B-GGUF:Q8_0", "qwen3-8b", "q8_0", None),
        ("unsloth/Qwen3-30B-A3B-GGUF:UD-Q4_K_XL", "qwen3-30b-a3b", "q4_k_m", None),
        ("google/gemma-3-27b-it-qat-q4_0-gguf", "gemma-3-27b", "q4_0", None),
        ("qwen3:8b-q4_K_M", "qwen3-8b", "q4_k_m", None),
        ("llama-3.1-8b:Q4_K_M", "llama-3.1-8b", "q4_k_m", None),
        ("Qwen3-8B-exl3-4.0bpw", "qwen3-8b", "exl3_4", None),
        ("Intel/Qwen3-8B-int4-AutoRound", "qwen3-8b", "gptq", None),
        ("RedHatAI/Qwen3-32B-NVFP4A16", "qwen3-32b", "nvfp4", None),
        ("RedHatAI/Qwen3-8B-FP8-BLOCK", "qwen3-8b", "fp8_block", None),
        ("amd/Llama-3.3-70B-Instruct-MXFP4-Preview", "llama-3.3-70b", "mxfp4", None),
        ("Qwen3-8B-int4-g32", "qwen3-8b", "int4_g32_sym", None),
        ("microsoft/bitnet-b1.58-2B-4T-gguf", "bitnet-b1.58-2b", "ternary", None),
        ("openai/gpt-oss-20b-mxfp4", "gpt-oss-20b", "mxfp4", 13.76),
    ],
)
def test_a_name_that_says_a_format(name: str, model: str, weights: str, gigabytes: float | None) -> None:
    found = variant(name)
    assert (found.name, found.weight_format) == (model, weights)
    assert found.notes[-1].startswith(f"{name}: {model} of the catalogue")
    if gigabytes is not None:
        held = sum(part_bytes(found, resolve(weights, lambda fmt: fmt)).values())
        assert held / 1e9 == pytest.approx(gigabytes, rel=0.01)


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct", "Qwen/Qwen3-8B"])
def test_a_name_without_a_format_is_the_model_itself(name: str) -> None:
    assert (variant(name).weight_format, variant(name).notes) == (None, ())


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("llama-9-8b-AWQ", "llama-3-8b"),
        ("llama-3-8b-foo", "llama-3-8b"),
        ("resnet-50-int8", "resnet-50"),
        ("qwen3-8b:IQ9_XS", "iq4_xs"),
        ("AWQ", "did you mean|known"),
        ("", "known"),
        ("-".join(["q4"] * 100), "known"),
    ],
)
def test_other_names_are_refused_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=nearest):
        load_model(name)
