"""One memory account: what fits, how many, and what engines allocate, against the logs of the engines themselves."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import InvalidInputError, UnsupportedError, WaferlineError
from waferline.formats import format_names
from waferline.machines.hardware import load_hardware
from waferline.predict.compare import compare
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.predict.serving import ServingModel, ServingResult

DATA = Path(__file__).parent / "data"
MIB, GIB = 2.0**20, 2.0**30


def serve(model: object, machine: object, prompt: object, batch: object = 1, **more: object) -> ServingResult:
    arguments = {"precision": "bf16", "output_len": 0} | more
    return ServingModel().solve(model, machine, prompt, batch, **arguments)  # type: ignore[arg-type]


# model, engine, precision, kv, tokens, sequences → MiB of cache and states that the engine's log (or a formula) says
ALLOCATED = [
    ("gemma-3-270m.json", "llama.cpp", "bf16", None, 1024, 1, 18.0),  # 1,024 cells in all layers
    ("gemma-3-270m.json", "llama.cpp", "bf16", None, 1536, 1, 27.0),  # windows of four slots: 1,536 cells in all layers
    ("gemma-3-270m.json", "llama.cpp", "bf16", None, 384, 4, 27.0),
    ("qwen3.6-27b.json", "llama.cpp", "bf16", None, 262144, 1, 16384 + 598.5 / 4),  # the log's states are of four slots
    ("qwen3.6-27b.json", "vllm", "bf16", None, 262144, 1, 16384 + 598.5 / 4),
    ("qwen1.5-72b.json", "vllm", "bf16", None, 8192, 1, 20.0 * 1024),
    ("deepseek-r1", "llama.cpp", "fp8", "q8_0", 32768, 1, 1166.62),
    ("glm-5", "llama.cpp", "fp8", None, 202752, 1, 17.18 * 1024 * 78 / 79),  # the log has the prediction layer's, too
    ("glm-5", "vllm", "fp8", None, 202752, 1, 202752 * 78 * (576 * 2 + 132) / MIB),  # indexer keys of 132 bytes
    ("gemma-3-27b", "vllm", "bf16", None, 131072, 1, 10.41 * 1024),
    ("qwen3-0.6b", "vllm", "bf16", None, 40960, 1, 4.375 * 1024),
    ("gpt-oss-20b", "vllm", "bf16", None, 8192, 32, 6.094 * 1024),
]


@pytest.mark.parametrize(("model", "engine", "precision", "kv", "tokens", "sequences", "mib"), ALLOCATED)
def test_cache_is_what_the_engine_allocates(
    model: str, engine: str, precision: str, kv: str | None, tokens: int, sequences: int, mib: float
) -> None:
    path = DATA / model if model.endswith(".json") else model
    r = serve(path, "h200", tokens, sequences, precision=precision, kv=kv, engine=engine)
    assert float(r["kv_cache_bytes"]) / MIB == pytest.approx(mib, rel=0.01)


def test_pages_that_windows_hold_while_a_prompt_is_read_are_as_many_as_the_context() -> None:
    """vLLM: 32 prompts of 8,192 tokens at once in all 24 layers are 12.0 GiB, though windows shrink afterwards."""
    r = serve("gpt-oss-20b", "h100", 8192, 32, precision="fp8")
    free = r["usable_bytes"] - r["device_weights_bytes"] - r["device_workspace_bytes"]
    chunk = 8192 * (3 * 2880 + 2 * 2880 * 4) * 2  # activations of a full pass: residuals and four experts' products
    each = (free - chunk) / r["kv_capacity_tokens"] * 8192
    assert 32 * float(each) / GIB == pytest.approx(12.0, rel=0.01)


# vLLM 0.15.1 on H100 (simulator validation runs, github.com/inference-sim): model, tensor parallelism, blocks of 16 tokens
LOGGED_BLOCKS = [
    ("llama-2-7b", 1, 7463),
    ("llama-3.1-70b", 4, 30425),
    ("mistral-nemo", 1, 19251),
    ("mistral-nemo", 2, 48009),
    ("qwen2.5-7b", 1, 65368),
    ("yi-34b", 2, 20793),
]


@pytest.mark.parametrize(("model", "tp", "blocks"), LOGGED_BLOCKS)
def test_cache_capacity_is_what_the_engine_logs(model: str, tp: int, blocks: int) -> None:
    r = serve(model, "h100", 2048, precision="fp16", tp=tp)
    assert float(r["kv_capacity_tokens"]) == pytest.approx(blocks * 16, rel=0.02)


# model, machine, what is asked → GiB of weights a device that the engine's log (or the file) says, and where
LOADED = [
    ("qwen3-30b-a3b", "a10", {"tp": 4}, 14.2474),  # vllm issue 17327
    ("llama-3.1-8b", "rtx-3090", {}, 14.9888),  # vllm issue 10517
    ("qwen2.5-14b", "rtx-4090", {"tp": 2}, 13.9476),  # vllm issue 13061
    ("qwen3-235b-a22b", "h100", {"tp": 8}, 54.9206),  # vllm issue 18446
    ("meta-llama/Llama-3.1-405B-Instruct-FP8", "h100", {"precision": "fp8", "tp": 8}, 57.752),  # vllm issue 6746
    ("minimax-m2.5", "h200", {"precision": "fp8", "tp": 8, "pp": 2}, 13.2),  # MiniMax-M2.5 issue 30
    ("gpt-oss-120b", "h100", {"precision": "mxfp4"}, 65.9651),  # vllm issue 23278: Marlin's widths
    ("kimi-k3", "mi355x", {"precision": "mxfp4", "tp": 8}, 195e9 / GIB),  # InferenceX pull request 2351
    ("qwen3-30b-a3b", "rtx-3090", {"precision": "q4_k_m", "engine": "llama.cpp"}, 17.28),  # llama.cpp issue 14235
    ("gemma-3-12b", "rtx-3090", {"precision": "q5_k_m", "engine": "llama.cpp"}, 7.86),  # llama.cpp issue 12352
    ("gemma-4-26b-a4b", "rtx-3090", {"precision": "q4_0", "engine": "llama.cpp"}, 13.448),  # Google's file, QAT
    ("gemma-4-12b", "rtx-3090", {"precision": "fp16", "engine": "llama.cpp"}, 22.18),  # ik_llama.cpp, F16
]


@pytest.mark.parametrize(("model", "machine", "asked", "gib"), LOADED)
def test_weights_are_what_the_engine_loads(model: str, machine: str, asked: dict[str, object], gib: float) -> None:
    assert float(serve(model, machine, 2048, **asked)["device_weights_bytes"]) / GIB == pytest.approx(gib, rel=0.02)


# model, tensor parallelism → GiB of the cache that the engine's log says, tokens that they hold, and where
TOKENS_LOGGED = [
    ("qwen3-235b-a22b", 4, 8.11, 178_880),  # vllm issue 21348
    ("qwen3-235b-a22b", 4, 16.46, 367_404),  # SGLang, the same issue
    ("glm-4.5-air", 2, 117.52, 1_339_395),  # sglang issue 11208
    ("minimax-m2.5", 2, 23.25, 196_608),  # spark-vllm-docker issue 396
    ("qwen3-30b-a3b", 1, 24.0, 262_144),  # vllm issue 34076
    ("llama-3.1-8b", 1, 3.81, 31_232),  # vllm issue 10517
]


@pytest.mark.parametrize(("model", "tp", "gib", "tokens"), TOKENS_LOGGED)
def test_cache_of_a_token_is_what_the_engine_logs(model: str, tp: int, gib: float, tokens: int) -> None:
    r = serve(model, "h200", tokens, tp=tp)
    assert float(r["kv_cache_bytes"]) / tp / GIB == pytest.approx(gib, rel=0.015)


LAW_MODELS = ("llama-3-8b", "mixtral-8x7b", "deepseek-v3", "gemma-3-27b", "gpt-oss-20b", "qwen3-0.6b", "jamba-v0.1")
LAW_MACHINES = (
    "h100",
    "rtx-3060",
    "raspberry-pi-5",
    "jetson-orin-nano-super-8gb",
    "m4-max",
    "mi300x",
    "xeon-8480+",
    "cs3",
)


@settings(max_examples=120, deadline=None)
@given(
    model=st.sampled_from(LAW_MODELS),
    machine=st.sampled_from(LAW_MACHINES),
    precision=st.sampled_from(("bf16", "int8", "int4", "q4_k_m")),
    engine=st.sampled_from((None, "vllm", "llama.cpp", "sglang", "tensorrt-llm", "pytorch")),
    degrees=st.sampled_from(({}, {"tp": 2}, {"pp": 3}, {"dp": 3}, {"tp": 4, "pp": 2}, {"tp": 8, "dp": 2})),
    prompt=st.integers(1, 20000),
    output=st.integers(0, 3000),
    spare=st.integers(0, 50000),
    share=st.sampled_from((None, 0.5, 0.95, 1.0)),
)
def test_as_many_fit_as_it_says_and_one_more_does_not(
    model: str,
    machine: str,
    precision: str,
    engine: str | None,
    degrees: dict[str, int],
    prompt: int,
    output: int,
    spare: int,
    share: float | None,
) -> None:
    more = {"output_len": output, "precision": precision, "engine": engine, "memory_share": share, **degrees}
    if spare:
        more["context"] = prompt + output + spare
    try:
        most = int(serve(model, machine, prompt, 1, **more)["max_batch_size"])
        around = serve(model, machine, prompt, [max(most, 1), most + 1, most + 7, 2 * most + 1], **more)
    except UnsupportedError:
        return  # no such format or link
    assert np.broadcast_to(around["feasible"], (4,)).tolist() == [most > 0, False, False, False]
    assert (around["max_batch_size"] == most).all()
    if most:
        assert around["device_memory_bytes"][0] <= around["usable_bytes"] * (1 + 1e-9)
    if most > 1 and "dp" not in degrees:
        assert around["device_memory_bytes"][1] > around["usable_bytes"] * (1 - 1e-9)


def test_one_rule_for_every_face() -> None:
    """70 B in FP8 leave an H100 no room for 8,192 tokens at 90 %: nothing may say that they fit; at 95 % they do."""
    asked = Scenario(model="llama-3.3-70b", machine="h100", precision="fp8", prompt=7936)
    answer = run(asked)
    assert not answer.fits and answer.result["max_batch_size"] == 0
    assert int(run(Scenario(**{**_fields(asked), "devices": "auto"})).result["devices"]) == 2
    assert int(compare(asked, ["h100"])[0].answer.result["devices"]) == 2  # type: ignore[union-attr]
    wider = run(Scenario(**{**_fields(asked), "memory_share": 0.95}))
    assert wider.fits and wider.result["max_batch_size"] >= 1
    assert "--memory-share 0.95" in [r.option for r in answer.remedies]


def _fields(scenario: Scenario) -> dict[str, object]:
    return {"model": scenario.model, "machine": scenario.machine, **scenario.given()}


_OPTIONS = {
    "--memory": "memory",
    "--memory-share": "memory_share",
    "--devices": "devices",
    "--precision": "precision",
    "--offload": "offload",
}
_OPTIONS |= {"--tp": "tp", "--pp": "pp", "--prompt": "prompt", "--context": "context", "--batch": "batch"}


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "llama-3-70b", "machine": "rtx-4090", "precision": "w8a8"},
        {"model": "llama-3-8b", "machine": "rtx-4090", "batch": 64},
        {"model": "llama-3-70b", "machine": "rtx-4090", "precision": "q4_k_m"},
        {"model": "llama-3.1-405b", "machine": "h100", "precision": "bf16"},
        {"model": "llama-3-70b", "machine": "rtx-4090", "precision": "bf16", "devices": 4},
        {"model": "gemma-3-27b", "machine": "rtx-4090", "precision": "int8", "context": 100_000},
        {"model": "gpt-oss-120b", "machine": "m4-max", "memory": "48GB"},
        {"model": "llama-3-8b", "machine": "m4", "memory": "16GB", "precision": "int8", "prompt": 60_000},
    ],
)
def test_what_is_proposed_fits_by_the_same_account(asked: dict[str, object]) -> None:
    answer = run(Scenario(**asked))  # type: ignore[arg-type]
    assert not answer.fits and answer.remedies
    for remedy in answer.remedies:
        words = remedy.option.split()
        change = {
            _OPTIONS[option]: _as_given(option, value) for option, value in zip(words[::2], words[1::2], strict=True)
        }
        assert run(Scenario(**{**asked, **change})).fits, remedy  # type: ignore[arg-type]


def _as_given(option: str, value: str) -> object:
    return value if option in ("--memory", "--precision", "--devices", "--offload") else float(value)


def test_more_devices_are_proposed_as_the_engine_spreads_them() -> None:
    asked = {"model": "gemma-3-27b", "machine": "rtx-4090", "precision": "int4", "context": 131072}
    for engine in ("llama.cpp", "vllm"):
        found = run(Scenario(**asked, engine=engine)).remedies
        assert "--devices 2" in [remedy.option for remedy in found], engine


@pytest.mark.parametrize("machine", ["rtx-4060", "m4", "raspberry-pi-5"])
def test_no_precision_breaks_what_does_not_fit(machine: str) -> None:
    for precision in ("w8a8", "w4a16", "w=fp8,kv=fp8", *format_names()):
        try:
            answer = run(Scenario(model="deepseek-r1", machine=machine, precision=precision))
        except WaferlineError:
            continue  # a format that the machine lacks
        assert not answer.fits


def test_an_engine_with_pages_needs_room_for_one_whole_context_and_others_for_every_one() -> None:
    machine = load_hardware("rtx-4090")
    paged = [serve("llama-3-8b", machine, 512, 4, output_len=0, engine="vllm", context=c) for c in (512, 8192, 65536)]
    assert [bool(r["feasible"]) for r in paged] == [True, True, False]
    assert (
        paged[0]["max_batch_size"] == paged[1]["max_batch_size"]
        and paged[0]["kv_cache_bytes"] == paged[1]["kv_cache_bytes"]
    )
    whole = [serve("llama-3-8b", machine, 512, 4, engine="llama.cpp", context=c) for c in (512, 8192)]
    assert whole[1]["kv_cache_bytes"] == 16 * whole[0]["kv_cache_bytes"]
    with pytest.raises(InvalidInputError, match="shorter than prompt and output"):
        serve("llama-3-8b", machine, [100, 600], context=512)


def test_beyond_the_context_of_a_model_is_said(tmp_path: Path) -> None:
    notes = run(Scenario(model="llama-3-8b", machine="h100", prompt=200_000)).result.notes
    assert any("200,256 tokens are beyond the context of 8,192" in note for note in notes)
    assert not any("beyond" in note for note in run(Scenario(model="llama-3-8b", machine="h100")).result.notes)
    config = json.loads((DATA / "qwen1.5-72b.json").read_text()) | {"max_position_embeddings": 32768}
    config["rope_scaling"] = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    (tmp_path / "config.json").write_text(json.dumps(config))
    stretched = {"model": tmp_path / "config.json", "machine": "b300", "precision": "fp8", "devices": 8}
    for context, said in ((100_000, "within"), (200_000, "beyond")):
        notes = run(Scenario(**stretched, context=context)).result.notes
        assert any(f"{said} the context of 131,072 (yarn x4 from 32,768)" in note for note in notes)


def test_a_share_is_a_share() -> None:
    for share in (0.0, 1.5, -1.0):
        with pytest.raises(InvalidInputError, match="memory_share"):
            run(Scenario(model="llama-3-8b", machine="h100", memory_share=share))


@pytest.mark.parametrize(("engine", "load"), list(itertools.product(("vllm", "llama.cpp"), ("static", "full"))))
def test_many_points_are_the_same_as_each_alone(engine: str, load: str) -> None:
    prompts, batches = np.array([17, 900, 40_000, 130_000]), np.array([[1], [7], [300]])
    together = serve("gemma-3-27b", "h100", prompts, batches, engine=engine, load=load, output_len=64)
    for i, j in np.ndindex(3, 4):
        alone = serve(
            "gemma-3-27b", "h100", int(prompts[j]), int(batches[i, 0]), engine=engine, load=load, output_len=64
        )
        for name in ("max_batch_size", "kv_capacity_tokens", "device_memory_bytes", "feasible"):
            assert np.broadcast_to(together[name], (3, 4))[i, j] == pytest.approx(float(alone[name]), rel=1e-12), name


# engine, share of all memory that is for weights and cache of a 70 B model in FP8 on an H100, of 85.52 GB, from its own rule
RULES = [
    ("vllm", 0.9 * 85.521),
    ("sglang", 85.521 - 1.0),  # 0.5 GB and graphs; a pass keeps 1.5 MB a token
    ("tensorrt-llm", 85.521 - 0.1 * (85.521 - 72.69 - 1.5 - 1.34)),  # a tenth of what weights and a pass leave
    ("llama.cpp", 85.521),
]


@pytest.mark.parametrize(("engine", "gigabytes"), RULES)
def test_an_engine_takes_the_share_that_its_documents_say(engine: str, gigabytes: float) -> None:
    r = serve("llama-3.3-70b", "h100", 512, precision="fp8", engine=engine)
    extra = float(r["device_workspace_bytes"]) if engine == "sglang" else 0.0
    assert (float(r["usable_bytes"]) - extra) / 1e9 == pytest.approx(gigabytes, rel=2e-3)
    if engine == "sglang":
        assert float(r["device_activation_bytes"]) == 8192 * 1.5e6


@pytest.mark.parametrize("model", ["qwen3-8b-fp8", "gpt-oss-20b", "llama-3.1-8b"])
def test_a_pass_alone_loads_the_weights_that_serving_loads(model):
    ones = [
        run(Scenario(model=model, machine="nvidia-h100-sxm-80gb", phase=phase)).result for phase in ("serve", "infer")
    ]
    assert ones[0]["weights_bytes"] == pytest.approx(ones[1]["weights_bytes"])


@pytest.mark.parametrize("phase", ["infer", "train"])
def test_a_pass_has_the_share_of_memory_that_it_is_told(phase):
    ask = Scenario(model="llama-3.2-1b", machine="nvidia-h100-sxm-80gb", phase=phase, batch=1)
    alone = run(ask).result
    share = float(alone["device_memory_bytes"]) / load_hardware("nvidia-h100-sxm-80gb").capacity_bytes
    assert run(replace(ask, memory_share=1.01 * share)).fits
    assert not run(replace(ask, memory_share=0.99 * share)).fits
