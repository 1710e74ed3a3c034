"""Engines as facts: every figure has a source, and limits follow the device as the engines' own defaults do."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.catalog.yaml_file import read_packaged
from waferline.machines.hardware import hardware_names, load_hardware
from waferline.predict.engine import Engine, engine_names, get_engine, limit

RAW = read_packaged("engines.yaml")
NO_FIGURE = {"one_pass", "title", "sources", "aliases", "runs"}


@pytest.mark.parametrize("name", RAW["engines"])
def test_every_figure_of_an_engine_has_a_source(name):
    row = RAW["engines"][name]
    covered = {field for key in row["sources"] for field in RAW["sources"][key]["covers"]}
    assert set(row) - NO_FIGURE <= covered


@pytest.mark.parametrize("key", RAW["sources"])
def test_a_source_is_a_document_or_says_what_was_assumed(key):
    source = RAW["sources"][key]
    assert source["title"] and source["date"] and source["covers"]
    assert source.get("url", "").startswith("https://") or source["assumed"]
    assert set(source["covers"]) <= {f.name for f in dataclasses.fields(Engine)}
    assert any(key in row["sources"] for row in RAW["engines"].values()), "a source that nothing rests on"


# engine, machine, sequences and tokens of a pass that its server takes by default, tokens of a batch job
LIMITS = [
    ("vllm", "h100", 1024, 8192, 16384),
    ("vllm", "a100", 256, 2048, 8192),
    ("vllm", "rtx4090", 256, 2048, 8192),
    ("vllm", "mi300x", 1024, 8192, 16384),
    ("vllm", "tpu-v5e", 256, 512, 1024),
    ("vllm", "xeon-8480+", 128, 2048, 4096),
    ("vllm-v0", "h100", 256, 8192, 8192),
    ("sglang", "t4", 2048, 2048, 2048),
    ("sglang", "rtx4090", 2048, 4096, 4096),
    ("sglang", "a100", 2048, 8192, 8192),
    ("sglang", "b200", 2048, 16384, 16384),
    ("tensorrt-llm", "h100", 2048, 8192, 8192),
    ("llama.cpp", "rtx4090", 4, 2048, 2048),
    ("ollama", "rtx4090", 1, 512, 512),
    ("mlx", "m3-ultra", 32, 2048, 2048),
    ("lmdeploy", "a100", 384, 8192, 8192),
    ("lmdeploy", "rtx4090", 128, 8192, 8192),
    ("pytorch", "h100", float("inf"), float("inf"), float("inf")),
]


@pytest.mark.parametrize(("engine", "machine", "sequences", "chunk", "batch_job"), LIMITS)
def test_limits_are_the_defaults_of_the_engine(engine, machine, sequences, chunk, batch_job):
    engine, device = get_engine(engine), load_hardware(machine)
    assert limit(engine.max_sequences, device) == sequences
    assert limit(engine.chunk_tokens, device) == chunk
    assert limit(engine.chunk_tokens, device, offline=True) == batch_job


@given(st.sampled_from(engine_names()), st.sampled_from(hardware_names()), st.booleans())
def test_every_engine_has_a_limit_on_every_machine(engine, machine, offline):
    engine, device = get_engine(engine), load_hardware(machine)
    assert limit(engine.max_sequences, device, offline=offline) >= 1
    assert limit(engine.chunk_tokens, device, offline=offline) >= 256


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("mlx-lm", "mlx"),
        ("MLX", "mlx"),
        ("llamacpp", "llama.cpp"),
        ("llama_cpp", "llama.cpp"),
        ("trtllm", "tensorrt-llm"),
        ("TensorRT LLM", "tensorrt-llm"),
        ("ExLlamaV2", "exllama"),
        ("exllama-v3", "exllama"),
        ("Ollama", "ollama"),
        ("LM Studio", "lm-studio"),
        ("TGI", "tgi"),
        ("KTransformers", "ktransformers"),
    ],
)
def test_engines_answer_to_the_names_people_use(said, meant):
    assert get_engine(said).name == meant


def test_an_engine_that_runs_another_has_its_constants_and_its_own_limits():
    studio, inner = get_engine("lm-studio"), get_engine("llama.cpp")
    assert (studio.step_s, studio.kernel_s) == (inner.step_s, inner.kernel_s)
    own = read_packaged("engine_fits_edge.yaml")["families"]
    assert all(studio.vendors[f] == inner.vendors[f] for f in inner.vendors if f not in own["lm-studio"])
    ollama = get_engine("ollama")  # where its own server was measured, those runs are its constants
    assert ollama.max_sequences == 1 and ollama.step_s == own["ollama"]["nvidia gpu"]["step_s"]


def test_an_engine_without_any_runs_says_so():
    for name in ("tgi", "ktransformers"):
        here = get_engine(name).running_on(load_hardware("h100"))
        assert here.known == "spec only" and here.notes
