"""Published effects of techniques: how a row is asked, and that the shared rows are predicted as the page says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from waferline.cli import run
from waferline.evidence.folder import evidence_folder
from waferline.evidence.techniques import check_effects, read_effects

HEADER = (
    "id,hardware,devices,model,phase,weight_format,batch,input_tokens,output_tokens,tp,engine,metric,value,"
    "technique,technique_settings,baseline_value,speedup,hit_rate,acceptance"
)
GOOD = (
    "a,nvidia-h100-sxm-80gb,1,llama-3-8b,decode,bf16,1,1024,256,1,vLLM,output_tokens_per_s,250,"
    "speculative-eagle3,tokens=3,150,1.67,,2.2"
)


def _file(folder: Path, *lines: str) -> Path:
    path = folder / "effects.csv"
    path.write_text("\n".join((HEADER, *lines)) + "\n")
    return path


def test_an_effect_is_the_ratio_times_what_the_row_states(tmp_path: Path) -> None:
    doubled = GOOD.replace("a,", "b,", 1).replace(",150,", ",300,")
    first, second = check_effects(read_effects(_file(tmp_path, GOOD, doubled))).outcomes
    assert first.predicted is not None
    assert second.predicted == pytest.approx(2 * first.predicted)
    assert 150 < first.predicted < 150 * 2.2
    assert first.low90 is not None
    assert first.low90 < first.predicted


def test_a_host_that_a_row_names_in_words_runs_the_experts(tmp_path: Path) -> None:
    """EPYC 9355 has six times the bandwidth of the desktop that stands beside a 3090 when nobody says: 499 and 83 GB/s."""
    row = (
        "a,nvidia-rtx-3090,1,qwen3-235b-a22b,decode,q6_k,1,512,128,1,llama.cpp,output_tokens_per_s,10,"
        'cpu-offload-experts,"layers_with_ffn_on_cpu=89 of 94,host={}",,,,'
    )
    named, unnamed = check_effects(
        read_effects(_file(tmp_path, row.format("epyc-9355"), row.format("").replace("a,", "b,", 1)))
    ).outcomes
    assert named.predicted is not None
    assert unnamed.predicted is not None
    assert 2 * unnamed.predicted < named.predicted < 6.01 * unnamed.predicted
    both = row.replace("host={}", "host=epyc-9355,sockets=2")  # of a host, at work as one machine
    (pair,) = check_effects(read_effects(_file(tmp_path, both))).outcomes
    assert pair.predicted is not None and named.predicted < pair.predicted < 2 * named.predicted


def test_every_row_is_answered_or_refused_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        GOOD,
        GOOD.replace("a,", "b,", 1).replace("speculative-eagle3", "astrology"),
        GOOD.replace("a,", "c,", 1).replace("output_tokens_per_s", "accept_length"),
        GOOD.replace("a,", "d,", 1).replace("speculative-eagle3,tokens=3", "prefix-caching,"),
    ]
    assert run(["evidence", "check", str(_file(tmp_path, *rows)), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["rows"]
    assert [r["id"] for r in told] == ["a", "b", "c", "d"]
    assert [bool(r["refused"]) for r in told] == [False, True, True, True]
    assert "astrology" in told[1]["refused"]
    assert run(["evidence", "check", str(_file(tmp_path, GOOD.replace(",2.2", ",two")))]) == 2
    assert "acceptance is not a number" in capsys.readouterr().err


def test_the_shared_rows_are_predicted_with_the_right_sign() -> None:
    folder = evidence_folder()
    path = folder / "techniques.csv.gz" if folder else None
    if path is None or not path.is_file():
        pytest.skip("the folder of published measurements is not here")
    effects = read_effects(path)
    report = check_effects(effects)
    assert len(report.outcomes) == len(effects)
    assert report.total.answered > 0.6
    spoken = [
        (e, o)
        for e, o in zip(effects, report.outcomes, strict=True)
        if o.scored and e.technique.startswith("speculative")
    ]
    assert np.median([o.error for _, o in spoken]) < 0.15
    rates = [(e, o) for e, o in spoken if o.row.metric.endswith("_per_s") and e.baseline]
    assert np.mean([(o.predicted > e.baseline) == (o.row.value > e.baseline) for e, o in rates]) >= 0.95  # type: ignore[operator]


def test_sparse_prompts_take_what_was_published(tmp_path: Path) -> None:
    """TriangleMix README, A100, Llama-3.1-8B, 128 k tokens: 34.5 s dense, 18.0 MInference, 23.4 TriangleMix, 14.5 both.

    What their kernels pad was fitted on another model's table."""
    row = "{0},nvidia-a100-80gb,1,llama-3.1-8b,prefill,bf16,1,131072,,1,Hugging Face,ttft_s,{1},{0},,34.5,,,"
    published = {
        "sparse-attention-minference": 18.0, "sparse-attention-trianglemix": 23.4,
        "sparse-attention-trianglemix+minference": 14.5,
    }  # fmt: skip
    rows = [row.format(name, value) for name, value in published.items()]
    for outcome in check_effects(read_effects(_file(tmp_path, *rows))).outcomes:
        assert outcome.predicted == pytest.approx(outcome.row.value, rel=0.15)


KERNEL = (
    "{0},{1},1,attention-kernel-hd128,prefill,,,32768,,1,bench,tflops_per_device,{2},quantised-attention,"
    '"kernel={0},head_dim=128,baseline={4}",{3},,,'
)


def test_attention_kernels_take_both_products_and_the_exponentials(tmp_path: Path) -> None:
    """TOP/s of SageAttention's figures, long and not causal, beside FlashAttention-2's; nothing was fitted on them."""
    published = (
        ("sage-8+8", "nvidia-rtx-4090", 419, 164), ("sage1", "nvidia-h100", 518, 339),
        ("sage2-8b", "nvidia-h100", 882, 339), ("flashattention3-fp8", "nvidia-h100", 892, 339),
    )  # fmt: skip
    rows = [KERNEL.format(*row, "FlashAttention-2") for row in published]
    unknown = KERNEL.format("nobody's", "nvidia-h100", 1, 339, "FlashAttention-2")
    *found, refused = check_effects(read_effects(_file(tmp_path, *rows, unknown))).outcomes
    for outcome in found:
        assert outcome.predicted == pytest.approx(outcome.row.value, rel=0.2)
    assert refused.predicted is None and "nobody's" in refused.refused
    (alone,) = check_effects(
        read_effects(_file(tmp_path, KERNEL.format("flashattention3-fp16", "nvidia-h100", 1, "", "FlashAttention-2")))
    ).outcomes
    assert alone.predicted is not None and 400 < alone.predicted < 989  # below the matrix units' peak


def test_the_slope_of_a_cache_follows_its_bytes(tmp_path: Path) -> None:
    """vLLM's blog: a token of context costs Llama-3.1-8B 43.7 ns in 16 bits, 23.7 in 8, on H100. Accepted lengths are given."""
    row = "a,nvidia-h100,1,llama-3.1-8b,decode,bf16,1,,128,1,vLLM,{0},2.37e-08,kv-quantisation,{1},4.37e-08,,,"
    slope = row.format("itl_slope_s_per_context_token", '"kv=fp8,baseline_kv=bf16"')
    given = row.format("accept_length", "tokens=3").replace("a,", "b,", 1)
    found, refused = check_effects(read_effects(_file(tmp_path, slope, given))).outcomes
    assert found.predicted == pytest.approx(2.37e-08, rel=0.1)
    assert "given to a prediction" in refused.refused
