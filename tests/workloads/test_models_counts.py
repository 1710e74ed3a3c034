"""Parameter counts of the catalogue against published figures and against the models that transformers builds."""

from __future__ import annotations

import re

import pytest

from waferline.workloads.counts import parameter_count
from waferline.workloads.models import FOLDER, catalog_model, model_names
from waferline.workloads.spec import ConvNet, MixtureOfExperts, Transformer

# What each model's publisher prints; (name, total, active per token or None).
PUBLISHED = [
    ("llama-3-8b", "8.03e9", None),
    ("mixtral-8x7b", "46.70e9", "12.9e9"),
    ("mixtral-8x22b", "140.6e9", "39e9"),
    ("dbrx", "131.6e9", "36e9"),
    ("qwen2-57b-a14b", "57.4e9", "14e9"),
    ("pangu-pro-moe", "71.99e9", "16.50e9"),
    ("deepseek-v3", "671e9", "37e9"),
    ("qwen3-0.6b", "0.6e9", None),
    ("gpt-oss-20b", "20.9e9", "3.6e9"),
    ("gpt-oss-120b", "116.8e9", "5.1e9"),
    ("llama-2-7b", "6.74e9", None),
    ("llama-2-70b", "68.98e9", None),
    ("llama-3-70b", "70.55e9", None),
    ("gemma-2-9b", "9.24e9", None),
    ("phi-3-mini", "3.82e9", None),
    ("kimi-k2", "1.0e12", "32e9"),
    ("qwen3-235b-a22b", "235e9", "22e9"),
    ("nemotron-3-nano", "31.6e9", "3.6e9"),
    ("longcat-flash", "560e9", "27e9"),
    ("gpt-3-175b", "175e9", None),
    ("gpt-529.6b", "529.6e9", None),
    ("gpt2", "124e6", None),
    ("gpt-j-6b", "6.05e9", None),
    ("vit-b-16", "86.6e6", None),
]

# Trainable parameters of the same configuration built by transformers 5.23 (meta device, tied weights once).
TRANSFORMERS = [
    ("bert-base", 109_482_240),
    ("bert-large", 335_141_888),
    ("bitnet-b1.58-2b", 2_412_820_480),
    ("bitnet-b1.58-3b", 3_324_387_840),
    ("bloom-176b", 176_247_271_424),
    ("bloom-7b1", 7_069_016_064),
    ("codellama-13b", 13_016_028_160),
    ("yi-6b", 6_061_035_520),
    ("command-r-35b", 34_980_831_232),
    ("deepseek-v2-lite", 15_706_484_224),
    ("deepseek-v2", 235_741_434_880),
    ("distilbert-base", 66_362_880),
    ("electra-base", 108_891_648),
    ("falcon-180b", 178_557_088_768),
    ("falcon-7b", 6_921_720_704),
    ("gemma-2-27b", 27_227_128_320),
    ("gemma-2-9b", 9_241_705_984),
    ("gemma-2b", 2_506_172_416),
    ("gemma-7b", 8_537_680_896),
    ("gemma-3-12b", 11_766_034_176),
    ("gemma-3-4b", 3_880_263_168),
    ("glm-4.5-air", 106_852_245_504),
    ("glm-4.5", 352_797_814_784),
    ("glm-4.7-flash", 29_943_390_976),
    ("glm-5", 743_911_199_232),
    ("gpt-1.3b", 1_317_654_528),
    ("gpt2", 124_439_808),
    ("gpt-j-6b", 6_050_882_784),
    ("gpt-neox-20b", 20_554_567_680),
    ("pythia-12b", 11_846_072_320),
    ("gpt-oss-120b", 116_829_156_672),
    ("gpt-oss-20b", 20_914_757_184),
    ("granite-3.1-8b", 8_170_848_256),
    ("jamba-v0.1", 51_570_323_328),
    ("llama-4-maverick", 400_711_848_960),
    ("llama-4-scout", 107_769_861_120),
    ("mamba-2.8b", 2_768_345_600),
    ("mamba2-2.7b", 2_702_599_680),
    ("mistral-7b-v0.3", 7_248_023_552),
    ("mistral-small-24b", 23_572_403_200),
    ("mixtral-8x22b", 140_620_634_112),
    ("mixtral-8x7b", 46_702_792_704),
    ("mobilenet-v1", 4_231_976),
    ("mobilenet-v2", 3_504_872),
    ("mpt-30b", 29_957_200_896),
    ("mpt-7b", 6_649_286_656),
    ("nemotron-4-340b", 341_029_195_776),
    ("nemotron-h-8b", 8_100_852_736),
    ("olmo-2-7b", 7_298_617_344),
    ("olmoe-1b-7b", 6_919_161_856),
    ("opt-1.3b", 1_315_758_080),
    ("opt-66b", 65_719_701_504),
    ("phi-2", 2_779_683_840),
    ("phi-3-medium", 13_960_238_080),
    ("phi-4", 14_659_507_200),
    ("phi-3.5-moe", 41_873_153_344),
    ("qwen1.5-7b", 7_721_324_544),
    ("qwen2.5-7b", 7_615_616_512),
    ("qwen1.5-moe-a2.7b", 14_315_784_192),
    ("qwen2-57b-a14b", 57_408_658_944),
    ("qwen3-0.6b", 596_049_920),
    ("qwen3-8b", 8_190_735_360),
    ("qwen3-235b-a22b", 235_093_634_560),
    ("qwen3-coder-480b-a35b", 480_154_875_392),
    ("qwen3-next-80b-a3b", 79_674_391_296),
    ("qwen3.5-397b-a17b", 396_346_350_336),
    ("resnet-101", 44_549_160),
    ("resnet-50", 25_557_032),
    ("roberta-base", 124_645_632),
    ("roberta-large", 355_359_744),
    ("starcoder2-15b", 15_957_889_024),
    ("starcoder2-7b", 7_173_923_840),
    ("t5-11b", 11_307_321_344),
    ("t5-small", 60_506_624),
    ("vit-b-16", 86_567_656),
    ("vit-l-16", 304_326_632),
    ("whisper-base", 72_593_920),
    ("whisper-tiny", 37_760_640),
    ("xlm-roberta-base", 278_043_648),
]

MACS = [
    ("resnet-18", "1.81e9"),
    ("resnet-34", "3.66e9"),
    ("resnet-50", "4.09e9"),
    ("resnet-101", "7.80e9"),
    ("resnet-152", "11.51e9"),
    ("vgg-16", "15.47e9"),
    ("mobilenet-v2", "0.30e9"),
    ("ds-cnn", "2.7e6"),
    ("resnet-8", "12.5e6"),
    ("mobilenet-v1-0.25-96", "7.5e6"),
]


def near(printed: str, value: float) -> bool:
    """Whether `value` is what was printed, rounded or cut off: within one unit of the last digit."""
    mantissa, _, exponent = printed.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(value - float(printed)) <= unit


def near_active(printed: str, name: str) -> bool:
    """As one of the three ways to count says: with the embedding, without it, or the layers alone (GLM-4.5, MiniMax-01)."""
    count = parameter_count(catalog_model(name))
    layers = count.active_per_token - count.embedding - count.head
    return any(near(printed, n) for n in (count.active_per_token, count.active_without_embedding, layers))


@pytest.mark.parametrize(("name", "total", "active"), PUBLISHED)
def test_published(name: str, total: str, active: str | None) -> None:
    assert near(total, parameter_count(catalog_model(name)).total)
    assert active is None or near_active(active, name)


@pytest.mark.parametrize(("name", "expected"), TRANSFORMERS)
def test_exactly_what_transformers_builds(name: str, expected: int) -> None:
    count = parameter_count(catalog_model(name))
    assert expected in (count.total, count.total + count.extra)  # `extra`: a pooler, which transformers builds


@pytest.mark.parametrize(("name", "macs"), MACS)
def test_multiply_accumulates(name: str, macs: str) -> None:
    assert near(macs, parameter_count(catalog_model(name)).macs)


@pytest.mark.parametrize("name", model_names())
def test_every_figure_printed_in_the_catalogue(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    printed = dict(re.findall(r"^(published_\w+): ([\d.e]+)$", text, re.MULTILINE))
    count = parameter_count(catalog_model(name))
    if "published_params" in printed:
        assert near(printed["published_params"], count.total)
    if "published_active_params" in printed:
        assert near_active(printed["published_active_params"], name)
    if "published_macs" in printed:
        assert near(printed["published_macs"], count.macs)


# Keras counts the two moving statistics of each batch-norm channel too.
@pytest.mark.parametrize(
    ("name", "keras"), [("ds-cnn", 24_908), ("mobilenet-v1-0.25-96", 221_794), ("fc-autoencoder", 269_992)]
)
def test_keras_counts_of_mlperf_tiny(name: str, keras: int) -> None:
    net = catalog_model(name)
    assert isinstance(net, ConvNet)
    statistics = sum(2 * layer.c_out * layer.count for layer in net.layers if layer.batch_norm)
    assert parameter_count(net).total + statistics == keras


# llm-foundry prints the exact number for a sequence of 2048 tokens.
@pytest.mark.parametrize(("size", "exact"), [("125m", 125_311_488), ("1b", 1_315_950_592), ("70b", 64_862_437_376)])
def test_mpt_training_tables(size: str, exact: int) -> None:
    assert parameter_count(catalog_model(f"mpt-{size}")).total == exact


def test_glm_45_counts_its_prediction_module_and_neither_embedding_nor_head() -> None:
    count = parameter_count(catalog_model("glm-4.5"))
    assert near("355e9", count.total + count.extra - count.embedding - count.head)
    assert near("32e9", count.active_per_token - count.embedding - count.head)


def test_deepseek_prediction_module_is_not_in_the_total() -> None:
    count = parameter_count(catalog_model("deepseek-v3"))
    # The checkpoint is printed as 685 B: the model, the module, and the module's copies of embedding and head.
    assert near("685e9", count.total + count.extra + count.embedding + count.head)


def test_head_dim_of_its_own_decides_the_kv_cache() -> None:
    model = catalog_model("qwen3-0.6b")
    assert isinstance(model, Transformer)
    assert sum(b.count * b.mixer.kv_elements_per_token for b in model.blocks if b.mixer) == 28 * 2 * 8 * 128


@pytest.mark.parametrize("name", model_names())
def test_parts_add_up(name: str) -> None:
    model = catalog_model(name)
    count = parameter_count(model)
    assert 0 < count.active_per_token <= count.total
    if isinstance(model, Transformer):
        sparse = any(isinstance(block.ffn, MixtureOfExperts) for block in model.blocks)
        assert (count.active_per_token < count.total) == sparse
        assert (count.experts > 0) == sparse
