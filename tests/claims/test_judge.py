"""Verdicts: the laws that a claim may break, and what is left to intervals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.cli import run
from waferline.evidence.claims.claim import Claim
from waferline.evidence.claims.judge import IDENTITY, LATENCY, judge_claim, judge_claims
from waferline.evidence.claims.laws import CAPACITY
from waferline.evidence.claims.sentence import claims_of
from waferline.evidence.claims.series import judge_series
from waferline.evidence.claims.spread import fit, is_fitted_on
from waferline.evidence.claims.survey import survey
from waferline.evidence.folder import PACKAGED
from waferline.evidence.metrics import is_rate
from waferline.evidence.rows import read_rows

CLAIM = Claim(
    text="",
    model="llama-3-8b",
    machine="h100",
    metric="output_tokens_per_s",
    value=100.0,
    batch=8,
    input_tokens=512,
    output_tokens=128,
)


def test_a_batch_whose_cache_does_not_fit_is_infeasible() -> None:
    one, many = judge_claims(
        claims_of("Llama-7B Q4_K on CS-3: 2400 tokens/s at batch 1; 50000 tokens/s at batch 50000, 2k context")
    )
    assert (many.status, many.law) == ("infeasible", CAPACITY)
    assert (one.status, one.law) == ("plausible", LATENCY)
    assert one.expected is not None and one.expected.low95 < 2400 < one.expected.high95


@pytest.mark.parametrize(
    ("sentence", "status", "law"),
    [
        ("Llama 3.1 70B fp16 on H100: 10 tok/s at batch 1", "infeasible", "capacity"),
        ("Llama 3 8B fp16 on H100: 900 tok/s at batch 1", "infeasible", "bandwidth"),
        ("Llama 3 8B fp16 on H100: TTFT 3 ms with 8k context", "infeasible", "arithmetic"),
        ("Llama 3 8B fp8 on H100: 12000 tokens/s at batch 256, 0.4 ms per token", "infeasible", IDENTITY),
        ("Llama 3 8B fp16 on H100: 120 tok/s at batch 1, 512 context", "plausible", "bandwidth"),
        ("Llama 3 8B fp16 on H100: 900 tok/s", "unverifiable", None),
        ("Llama 3 8B on a machine of mine: 900 tok/s", "unverifiable", None),
        ("Llama 3 8B on 16 H100: 130 % MFU", "infeasible", "utilisation"),
    ],
)
def test_statuses(sentence: str, status: str, law: str | None) -> None:
    judged = judge_claims(claims_of(sentence))
    assert {j.status for j in judged} == {status}
    assert law is None or judged[0].law == law
    assert all(j.reasons for j in judged)


@given(st.integers(1, 64), st.floats(1.0, 1e6))
@settings(max_examples=25, deadline=None)
def test_a_faster_claim_is_never_more_believable(batch: int, value: float) -> None:
    order = ["plausible", "optimistic", "infeasible"]
    slow, fast = (judge_claim(replace(CLAIM, batch=batch, value=v)).status for v in (value, value * 3))
    assert order.index(slow) <= order.index(fast)


@given(st.integers(1, 512), st.integers(64, 4096))
@settings(max_examples=25, deadline=None)
def test_what_we_expect_is_possible(batch: int, prompt: int) -> None:
    """No law forbids our own prediction, unless memory does."""
    judged = judge_claim(replace(CLAIM, batch=batch, input_tokens=prompt))
    if judged.law != CAPACITY:
        assert judged.expected is not None and judged.best is not None
        assert judged.expected.value <= judged.best * 1.001


def test_a_flat_series_is_rejected_and_a_growing_one_is_not() -> None:
    work = np.array([1e9, 1e10, 1e11, 1e12])
    assert judge_series(work, work / 1e12 + 1e-3, 5e13).accepted
    assert not judge_series(work, np.full(4, 4e-4), 5e13).accepted
    assert not judge_series(work, np.full(4, 1.0), 5e13).accepted  # slow enough, yet it ignores the work


def test_published_rows_are_rarely_flagged_and_impossible_ones_are() -> None:
    rows = read_rows(PACKAGED)[::10]
    sound = survey(rows)
    assert len(sound.sound) > 100 and sound.wrongly_flagged < 0.01
    faster = [replace(r, value=r.value * (1000 if is_rate(r.metric) else 1e-3)) for r in rows]
    impossible = survey([replace(r, suspect="faster than light: a thousand times") for r in faster])
    judged = [j for j in impossible.impossible if j.status != "unverifiable"]
    assert np.mean([j.status == "infeasible" for j in judged]) > 0.95


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["claim", "--help"]) == 0
    capsys.readouterr()
    assert run(["claim", "check", "Llama-7B Q4_K on CS-3: 50000 tokens/s at batch 50000, 2k context", "--json"]) == 0
    (judged,) = json.loads(capsys.readouterr().out)
    assert judged["status"] == "infeasible" and judged["law"] == "capacity"


def test_the_spread_is_fitted_on_some_sources_and_checked_on_the_others() -> None:
    rng = np.random.default_rng(0)
    ratios = np.exp(rng.normal(0, 0.2, 4000))
    rows = [("serving static", f"source {i % 20}", float(r)) for i, r in enumerate(ratios)]
    table = fit(rows)["serving static"]
    assert {is_fitted_on(f"source {i}") for i in range(20)} == {True, False}
    wanted = pytest.approx(np.exp(1.96 * 0.2), rel=0.1)
    assert table["fast"] == wanted and table["slow"] == wanted
    assert table["left_out_rows"] > 0 and table["left_out_faster"] == pytest.approx(0.025, abs=0.02)
    assert not fit(rows[:20])


@pytest.mark.parametrize(
    "text", ["batch 1000, context 64", "batch 1000 context 64", "context 64, batch 1000", "64 context, bs 1000"]
)
def test_a_batch_is_no_context(text: str) -> None:
    claim = claims_of(f"Llama-3-8B fp16 on H100: {text}: 100 tokens/s")[0]
    assert (claim.batch, claim.input_tokens) == (1000, 64)


def test_a_checkpoint_is_read_in_the_format_it_ships_in() -> None:
    """gpt-oss-120b on a DGX Spark: about 35 tokens/s with vLLM's own kernels (NVIDIA/dgx-spark-playbooks#79)."""
    judged = judge_claim(claims_of("gpt-oss-120b on DGX Spark: 35 tokens/s at batch 1")[0])
    assert judged.status == "plausible"
    assert "number format not stated: taken as mxfp4" in judged.reasons


def test_a_checkpoint_that_an_engine_quantises_further_is_no_infeasible_claim() -> None:
    """59 tokens/s was measured twice with a build that turns attention and head to MXFP4 as it loads
    (spark-arena/recipe-registry#17): as shipped, in 16 bits, they alone would take a third of each token's bytes."""
    judged = judge_claim(claims_of("gpt-oss-120b on DGX Spark with vLLM: 59 tokens/s at batch 1")[0])
    assert judged.status == "plausible"
    assert "number format not stated: impossible in mxfp4, so judged in int4" in judged.reasons
    files = judge_claim(
        claims_of("gpt-oss-120b on DGX Spark: 59 tokens/s at batch 1")[0]
    )  # llama.cpp's keep the rest in q8_0
    assert files.status == "plausible" and "number format not stated: taken as mxfp4" in files.reasons


def test_a_claim_that_names_no_format_is_infeasible_only_if_every_format_is() -> None:
    told = claims_of("Llama-3-8B fp16 on H100: 700 tokens/s at batch 1, context 64")[0]
    untold = claims_of("Llama-3-8B on H100: 700 tokens/s at batch 1, context 64")[0]
    assert judge_claim(told).status == "infeasible"
    judged = judge_claim(untold)
    assert judged.status != "infeasible" and any("impossible in 16 bit" in reason for reason in judged.reasons)
    beyond = claims_of("Llama-3-8B on H100: 5000 tokens/s at batch 1, context 64")[0]
    assert judge_claim(beyond).status == "infeasible"


def test_what_nobody_said_is_read_kindly_and_printed() -> None:
    """gpt-oss-120b on a DGX Spark at 59 tokens/s was measured twice."""
    (judged,) = judge_claims(claims_of("gpt-oss-120b runs at 59 tok/s on a DGX Spark"))
    assert judged.status == "plausible"
    said = "; ".join(judged.reasons)
    for word in ("batch not stated", "context not stated", "engine not stated", "number format not stated"):
        assert word in said
    assert "impossible above" in said and "tokens of context" in said


def test_the_context_that_decides_is_where_the_law_breaks() -> None:
    (judged,) = judge_claims(claims_of("Llama 3.3 70B fp8 on H200: 50 tok/s at batch 1"))
    (said,) = [r for r in judged.reasons if r.startswith("impossible above")]
    tokens = int(said.split()[2].replace(",", ""))
    below, above = (
        judge_claim(replace(claims_of("Llama 3.3 70B fp8 on H200: 50 tok/s at batch 1")[0], input_tokens=t * n))
        for t, n in ((tokens, 0.9), (tokens, 1.2))
    )
    assert below.status != "infeasible" and above.status == "infeasible"


@pytest.mark.parametrize(
    ("sentence", "devices"),
    [
        ("Llama 3 70B on Gaudi3: 2000 tokens/s at batch 256 on 8 devices", 8),
        ("Llama 3.1 405B on an 8-GPU H200 server: 30 tokens/s at batch 1", 8),
        ("Llama 3.1 405B at 132 tokens/s on 16 SN40L", 16),
        ("Llama 2 70B on H100s: 100 tokens/s per user", 8),  # as many as a box joins
        ("Llama 2 70B on H100: 20 tokens/s per user", 1),
        ("Llama 2 70B on one H100: 20 tokens/s per user", 1),
        ("Llama 2 70B on a single H100: 20 tokens/s per user", 1),
    ],
)
def test_devices_are_counted_as_people_write_them(sentence: str, devices: int) -> None:
    (claim,) = claims_of(sentence)
    assert claim.devices == devices
    assert claim.machine.split("-")[1] in sentence.lower()


def test_a_service_named_after_its_machine_may_run_on_many() -> None:
    (named,) = judge_claims(claims_of("gpt-oss-120b on Cerebras CS-3 at 3,000 tokens per second"))
    assert named.status == "unverifiable" and "missing: number of devices" in named.reasons[0]
    (one,) = judge_claims(claims_of("Llama 3.1 405B at 969 tokens/s on one CS-3"))
    assert one.status == "infeasible"


@pytest.mark.parametrize(
    ("sentence", "metric", "status", "said"),
    [  # figures of Cerebras' CS-3 and NVIDIA's H100 as their makers print them
        ("Cerebras CS-3 has 44 GB of SRAM", "memory_bytes", "plausible", "44.0 GB of SRAM"),
        ("8x H100 with 640 GB of memory", "memory_bytes", "plausible", "of each of 8"),
        ("an H100 with 141 GB HBM3", "memory_bytes", "infeasible", "HBM3"),
        ("CS-3 has 900,000 cores", "cores", "plausible", "900,000"),
        ("CS-3 has 850k cores", "cores", "infeasible", "900,000"),
        ("H100 has 16,896 cores", "cores", "unverifiable", "132 units"),
        ("CS-3 draws 23 kW", "power_w", "plausible", "23.0 kW"),
        ("an H100 server draws 10.2 kW", "power_w", "unverifiable", "device alone"),
        ("CS-3 costs $5-10 per hour", "hourly_usd", "unverifiable", "no price"),
        ("CS-3 costs $0.50 an hour", "hourly_usd", "infeasible", "electricity"),
        ("CS-3 costs $1.20 an hour", "hourly_usd", "unverifiable", "electricity"),  # it may draw less than its limit
    ],
)
def test_claims_about_a_machine_are_put_beside_its_sheet(sentence: str, metric: str, status: str, said: str) -> None:
    (judged,) = judge_claims(claims_of(sentence))
    assert judged.claim is not None
    assert (judged.claim.metric, judged.status) == (metric, status)
    assert said in " ".join(judged.reasons)
