"""The model catalogue: every file checked, names forgiving, the way to one model short."""

from __future__ import annotations

import subprocess
import sys

import pytest

from waferline.catalog.names import identifier, spoken
from waferline.catalog.yaml_file import read_packaged
from waferline.errors import FileFormatError, InvalidInputError, UnknownNameError
from waferline.workloads.model_schema import check_model
from waferline.workloads.models import FOLDER, Models, attributes, catalog_model, find_model, model_facts, model_names
from waferline.workloads.spec import LinearAttention, StateSpace, Transformer

# Slugs under which published measurements name models.
MEASURED = [
    "llama-3-8b",
    "llama-2-7b",
    "llama-3.1-70b",
    "llama-2-70b",
    "llama-3.1-8b",
    "minimax-m2.5",
    "mixtral-8x7b",
    "qwen3-32b",
    "llama-3-70b",
    "mistral-7b",
    "deepseek-v3",
    "deepseek-r1",
    "qwen3.5-397b-a17b",
    "gpt-j-6b",
    "qwen3-235b-a22b",
    "kimi-k2.5",
    "qwen2-7b",
    "gpt-20b",
    "llama-3.3-70b",
    "qwen2.5-0.5b-instruct",
    "falcon-180b",
    "llama-3.1-405b",
    "decilm-7b",
    "gpt-oss-20b",
    "megatron-530b",
    "internlm-20b",
    "glm-5",
    "llama-3.2-3b",
    "llama-4-maverick",
    "codellama-13b",
    "tinyllama-1.1b",
    "llama-4-scout",
    "qwen3-30b-a3b",
    "llama-7b",
    "aquila-7b",
    "opt-6.7b",
    "qwen1.5-7b",
    "deepseek-r1-distill-14b",
    "vicuna-7b",
    "gemma-2b",
    "gpt-1.3b",
    "gpt-350m",
    "bitnet-b1.58-3b",
    "qwen2-1.5b",
    "phi-2",
    "gemma-7b",
    "gemma-2-2b",
    "qwen3-0.6b",
    "bitnet-b1.58-2b",
    "falcon-7b",
    "deepseek-coder-33b",
    "glm-4-9b",
    "qwen2-0.5b",
    "llama-30b",
    "mpt-7b",
    "qwen3-coder-30b-a3b",
    "qwen2.5-7b",
    "gemma-3-4b",
    "glm-4.7-flash",
    "longcat-flash",
    "phi-3.5-3b",
    "llama-13b",
    "llama-33b",
    "open-llama-3b",
    "kimi-k2",
    "bloom-7b1",
    "gemma-2-9b",
    "mpt-3b",
    "mpt-760m",
    "mpt-125m",
    "mpt-30b",
    "mpt-13b",
    "gpt-hidden-1536-layers-16-vocab-51200",
    "mpt-1b",
    "mpt-350m",
    "nemotron-3-super-120b-a12b",
    "gpt-3-175b",
    "mpt-70b",
    "maxtext-16b",
    "maxtext-32b",
    "maxtext-64b",
    "maxtext-128b",
    "nemotron-3-nano",
    "maxtext-22b",
    "maxtext-52b",
    "gpt-hidden-768-layers-12-vocab-51200",
    "gpt-hidden-3072-layers-32-vocab-51200",
    "gpt-1.7b",
    "gpt-3.6b",
    "gpt-7.5b",
    "gpt-39.1b",
    "gpt-145.6b",
    "gpt-310.1b",
    "gpt-529.6b",
    "gpt-1008b",
    "gpt-175b",
    "gpt-1t",
    "gopher-280b",
    "megatron-turing-nlg-530b",
    "gpt-style-175b",
    "resnet50",
    "bert-99",
    "bert-base",
    "bert-99.9",
    "mlperf-tiny-kws",
    "mlperf-tiny-ic",
    "mlperf-tiny-ad",
    "mlperf-tiny-vww",
    "t5-small",
    "t5-base",
    "t5-3b",
    "whisper",
    "bert-base-uncased",
    "distilbert-base-uncased",
    "electra-base-discriminator",
    "roberta-base",
    "roberta-large",
    "xlm-roberta-base",
    "vit-base-patch16-224",
    "vit-base-patch32-224",
    "resnet18",
    "resnet34",
    "resnet101",
    "vgg11",
    "vgg16",
    "bert",
]

SPELLINGS = [
    ("llama3-8b", "llama-3-8b"),
    ("LLAMA 3 8B", "llama-3-8b"),
    ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b"),
    ("Llama3_1_8B", "llama-3.1-8b"),
    ("llama-3-1-8b", "llama-3.1-8b"),
    ("opt-1.3b", "opt-1.3b"),
    ("OPT_1_3B", "opt-1.3b"),
    ("opt-13b", "opt-13b"),
    ("gpt 2", "gpt2"),
    ("ResNet50", "resnet-50"),
    ("qwen/Qwen3-30B-A3B", "qwen3-30b-a3b"),
    ("mixtral", "mixtral-8x7b"),
    ("DeepSeek_R1", "deepseek-r1"),
]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_holds_to_the_schema(path) -> None:  # type: ignore[no-untyped-def]
    facts = read_packaged(f"models/{path.name}")
    checked = check_model(facts, path.name)
    assert checked.name == path.stem
    assert checked.sources
    assert (checked.attribute or identifier(checked.title)) in attributes()


def test_there_are_many_models_of_every_kind() -> None:
    families = {catalog_model(name).family for name in model_names()}
    assert len(model_names()) >= 60
    assert {"llama", "mixtral", "deepseek_v3", "mamba2", "nemotron_h", "bert", "vit", "whisper", "resnet"} <= families


def test_no_two_models_share_a_spelling() -> None:
    owners: dict[str, str] = {}
    for attribute, name in attributes().items():
        facts = model_facts(name)
        for text in {spoken(n) for n in (name, facts["title"], attribute, *facts.get("aliases", ()))}:
            assert owners.setdefault(text, name) == name, text


@pytest.mark.parametrize("slug", MEASURED)
def test_measured_models_are_known(slug: str) -> None:
    assert find_model(slug) in model_names()


@pytest.mark.parametrize(("spelling", "name"), SPELLINGS)
def test_forgiving_names(spelling: str, name: str) -> None:
    assert find_model(spelling) == name


@pytest.mark.parametrize(("wrong", "near"), [("lama-3-8b", "llama-3-8b"), ("qwen3-33b", "qwen3-32b")])
def test_a_wrong_name_answers_with_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=near):
        catalog_model(wrong)


@pytest.mark.parametrize("nothing", ["", "  ", "///", "☃"])
def test_an_empty_name_is_unknown(nothing: str) -> None:
    with pytest.raises(UnknownNameError):
        catalog_model(nothing)


def test_a_name_is_text() -> None:
    with pytest.raises(InvalidInputError, match="text"):
        find_model(8)  # type: ignore[arg-type]


def test_attributes_and_completion() -> None:
    assert Models.Llama3_8B == catalog_model("llama-3-8b")
    assert {"Llama3_8B", "ResNet50", "Qwen3_0_6B", "DS_CNN"} <= set(dir(Models))
    assert all(name.isidentifier() for name in dir(Models))
    assert {getattr(Models, name).name for name in dir(Models)} == set(model_names())
    with pytest.raises(AttributeError, match="Llama3_8B"):
        _ = Models.Lama3_8B


def test_hybrids_mix_recurrent_and_attention_layers() -> None:
    for name, kind, layers in (("nemotron-3-nano", StateSpace, 23), ("qwen3.5-397b-a17b", LinearAttention, 45)):
        model = catalog_model(name)
        assert isinstance(model, Transformer)
        assert sum(b.count for b in model.blocks if isinstance(b.mixer, kind)) == layers


def test_one_model_is_read_without_the_heavy_libraries() -> None:
    script = (
        "import sys; from waferline.workloads.models import catalog_model; catalog_model('llama3-8b');"
        "print([m for m in ('pydantic', 'numpy', 'gguf', 'xarray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alias": ["x"]}, "unknown key 'alias'.*aliases"),
        ({"sources": [{"titel": "x", "url": "https://x.org", "date": "2024-01-01"}]}, "title"),
        ({"name": "Not A Slug"}, "name"),
        ({"published_params": -1}, "published_params"),
        ({"published_params": float("nan")}, "published_params"),
        ({"transformer": {}}, "exactly one"),
        ({"config": None}, "exactly one"),
    ],
)
def test_schema_names_the_mistake(change: dict, message: str) -> None:  # type: ignore[type-arg]
    good = {"name": "x", "title": "X", "config": {"model_type": "llama"}}
    with pytest.raises(FileFormatError, match=message):
        check_model(good | change, "mine.yaml")


@pytest.mark.parametrize(
    ("typed", "first"),
    [("llama-8b", "llama-3-8b"), ("lama-3-8b", "llama-3-8b"), ("gpt-oss", "gpt-oss-20b")],
)
def test_the_nearest_model_is_the_one_that_a_person_means(typed: str, first: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        catalog_model(typed)
    assert str(error.value.hint).startswith(f"did you mean {first}")
