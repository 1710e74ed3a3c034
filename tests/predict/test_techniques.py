"""Techniques on any model: what each must do by its own arithmetic, and what the command line makes of good and bad words."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest

import waferline as wl
from waferline.cli import run
from waferline.predict.techniques import TECHNIQUES
from waferline.predict.techniques.speculative import accepted_tokens

BATCHES = np.array([1, 4, 16, 64, 256])


def _solve(techniques: object = None, batch: object = 1, model: str = "llama-3-8b", **options: object) -> wl.Result:
    return wl.ServingModel().solve(model, "h100", 1024, batch, "bf16", output_len=256, techniques=techniques, **options)  # type: ignore[arg-type]


def test_a_run_of_accepted_drafts_is_what_leviathan_expects() -> None:
    """Equation 1 of arXiv:2211.17192; its section 3.5 example: alpha 0.8, gamma 5 gives 3.69 tokens."""
    assert accepted_tokens(5, 0.8, None) == pytest.approx(3.69, abs=0.01)
    assert accepted_tokens(4, 1.0, None) == 5
    assert accepted_tokens(4, 0.0, None) == 1


@pytest.mark.parametrize("name", ["eagle", "mtp", "medusa", "ngram", "speculative"])
def test_speculation_gains_at_batch_one_and_less_with_the_batch(name: str) -> None:
    draft = "draft=llama-3.2-1b," if name == "speculative" else ""
    asked = f"{name}:{draft}tokens=4,accepted=2.5"
    gain = _solve(None, BATCHES)["itl_s"] / _solve(asked, BATCHES)["itl_s"]
    assert 1.2 < gain[0] <= 2.5
    assert gain[-1] < gain[0]
    nothing = _solve(f"{name}:{draft}tokens=4,acceptance=0", BATCHES)
    assert np.all(
        nothing["itl_s"] >= _solve(None, BATCHES)["itl_s"] * (1 - 1e-9)
    )  # all drafts are refused: nothing is won


def test_a_drafter_takes_memory() -> None:
    """Llama 3.2 1B has 1.24 billion parameters: 2.5 GB in bf16 (its model card)."""
    plain, drafted = _solve(), _solve("speculative:draft=llama-3.2-1b")
    added = float(drafted["device_weights_bytes"] - plain["device_weights_bytes"])
    assert added == pytest.approx(2 * 1.236e9, rel=0.02)
    assert drafted["max_batch_size"] < plain["max_batch_size"]


def test_a_cached_prefix_is_not_computed_and_still_held() -> None:
    plain, none, most = (_solve(t, 8) for t in (None, "prefix-cache:hit=0", "prefix-cache:hit=1"))
    assert none["ttft_s"] == plain["ttft_s"]
    assert most["ttft_s"] < plain["ttft_s"] / 5
    assert most["kv_cache_bytes"] == plain["kv_cache_bytes"]
    assert most["itl_s"] == plain["itl_s"]
    hits = [float(_solve(f"prefix-cache:hit={h}", 8)["ttft_s"]) for h in (0, 0.25, 0.5, 0.75, 1)]
    assert hits == sorted(hits, reverse=True)


def test_none_is_no_technique() -> None:
    assert _solve("none")["itl_s"] == _solve(None)["itl_s"]
    with pytest.raises(wl.UnknownNameError, match="none"):
        _solve("none+eagle")


def test_techniques_compose_and_broadcast() -> None:
    both = _solve(["prefix-cache:hit=0.5", "eagle:accepted=2"], BATCHES)
    assert both.about["techniques"].startswith("prefix-cache:hit=0.5 + eagle:")
    for i, batch in enumerate(BATCHES):
        one = _solve("prefix-cache:hit=0.5+eagle:accepted=2", int(batch))
        for key in ("ttft_s", "itl_s", "light_itl_s", "itl_low90_s", "max_batch_size"):
            assert np.broadcast_to(both[key], BATCHES.shape)[i] == pytest.approx(float(one[key]), rel=1e-12)
    assert np.all(both["itl_s"] >= both["light_itl_s"])
    assert not {"prefix caching", "speculative decoding"} & set(both.not_modelled)
    assert {"prefix caching", "speculative decoding"} <= set(_solve().not_modelled)


@pytest.mark.parametrize(
    "first", ["pruning", "lora", "layer-skip:share=0.5", "sparse-attention:tokens=64", "near-memory"]
)
@pytest.mark.parametrize("then", ["eagle:tokens=4", "chunked-prefill:tokens=256"])
def test_what_makes_a_pass_anew_loses_nothing_of_the_others(first: str, then: str) -> None:
    """A verification and a prompt in pieces are lowered again: what changes operators counts before and after them alike."""
    one, other, alone = (_solve(t, 8) for t in (f"{first}+{then}", f"{then}+{first}", then))
    for key in ("ttft_s", "itl_s"):
        assert one[key] == other[key]
    assert (one["ttft_s"], one["itl_s"]) != (alone["ttft_s"], alone["itl_s"])


def test_the_order_of_any_two_changes_nothing_and_none_is_faster_than_light() -> None:
    """Every pair on a mixture over two ranks, either way round, but for those that are refused together."""
    made = {n: n for n in TECHNIQUES if n not in ("lut-gemv", "translated", "emulated")}  # these are a processor's
    made |= {"speculative": "speculative:draft=llama-2-7b", "kv-prediction": "kv-prediction:auxiliary=llama-2-7b"}
    served = {"model": "mixtral-8x7b", "batch": 8, "tp": 2, "ep": 2}
    together = 0
    for first, then in combinations(made.values(), 2):
        try:
            one, other = _solve(f"{first}+{then}", **served), _solve(f"{then}+{first}", **served)  # type: ignore[arg-type]
        except wl.InvalidInputError as refused:
            assert "both would change the same thing" in str(refused)
            continue
        together += 1
        for key in ("ttft_s", "itl_s", "max_batch_size"):
            assert one[key] == pytest.approx(float(other[key]), rel=1e-9), (first, then, key)
        assert one["itl_s"] >= one["light_itl_s"] * (1 - 1e-9)
        assert one["ttft_s"] >= one["light_ttft_s"] * (1 - 1e-9)
    assert together > 100


def test_every_technique_says_what_it_is_and_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["techniques", "--json"]) == 0
    listed = {t["name"]: t for t in json.loads(capsys.readouterr().out)}
    assert listed.keys() == TECHNIQUES.keys()
    for name, told in listed.items():
        assert all(told[part] for part in ("title", "source", "limits", "checked"))
        assert run(["techniques", name]) == 0
        draft = next((f":{k}=llama-2-7b" for k in ("draft", "auxiliary") if k in told["parameters"]), "")
        capsys.readouterr()
        on_processor = name in ("lut-gemv", "translated", "emulated")
        case = "llama-2-7b --on m2-pro-cpu -p q4_0" if on_processor else "mixtral-8x7b --on h200 --tp 2 --ep 2"
        assert run(["predict", *case.split(), "--with", name + draft, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["techniques"].startswith(name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("prefx-cache", "prefix-cache"),
        ("prefix-cache:hits=0.5", "hit"),
        ("prefix-cache:hit=1.5", "between 0 and 1"),
        ("prefix-cache:hit=much", "not 'much'"),
        ("prefix-cache:hit", "not 'hit'"),
        ("eagle:tokens=3,accepted=9", "9 accepted tokens of 3"),
        ("eagle:acceptance=0.5,accepted=2", "not both"),
        ("eagle:parallel=maybe", "no, yes"),
        ("speculative", "draft must be given"),
        ("speculative:draft=resnet-50", "does not generate"),
        ("speculative:draft=lama-3.2-1b", "llama-3.2-1b"),
        ("speculative:draft=llama-2-7b", "32,000 tokens and llama-3-8b 128,256"),
        ("eagle:tokens=2.5", "whole number"),
        ("eagle+mtp", "eagle and mtp: both"),
        ("layer-skip+layer-skip", "layer-skip twice"),
        ("kv-prediction:auxiliary=llama-3.2-1b+chunked-prefill", "both would change"),
        ("expert-imbalance", "no experts to balance"),
        ("translated", "is a gpu"),
        ("offload:layers=8+near-memory", "not beside a host"),
        ("", "needs a value"),
    ],
)
def test_bad_words_are_refused_with_the_nearest(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "llama-3-8b", "--on", "h100", "--with", words]) == 2
    assert said in capsys.readouterr().err


def test_what_no_technique_changes_refuses_it(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (
        "resnet-50 --on h100",
        "resnet-8 --on gap8 --with translated",
        "t5-large --on h100",
        "llama-3-8b --on wse2",
        "mamba-2.8b --on h100 --with kv-format",
        "mamba-2.8b --on h100 --with sparse-attention",
        "mamba-2.8b --on h100 --with near-memory",
        "mixtral-8x7b --on h100 --devices 2 --with expert-imbalance",
        "llama-3-8b --on h100 --kv fp8 --with kv-format:int4",
    ):
        assert run(["predict", *line.split(), "--with", "prefix-cache"]) == 2
        assert "Traceback" not in capsys.readouterr().err


def test_a_network_of_one_pass_is_executed_in_other_modes() -> None:
    """Rosetta 2: 13.94 ms of 7.39. Without an FPU an addition and a product take 45.7 and 36.5 cycles (SEGGER emFloat)."""
    plain, slow = (
        wl.run(wl.Scenario(model="resnet-50", machine="raspberry-pi-5", techniques=mode)).result
        for mode in (None, "translated")
    )
    assert float(slow["light_latency_s"] / plain["light_latency_s"]) == pytest.approx(13.94 / 7.39, rel=1e-6)
    assert any("one factor" in note for note in slow.notes)
    soft = wl.run(wl.Scenario(model="resnet-8", machine="gap8", precision="fp32", techniques="emulated")).result
    cores, clock_hz, macs = 8, 175e6, 12.5e6  # MLPerf Tiny's ResNet-8
    least_s = macs * (45.7 + 36.5) / (cores * clock_hz)
    assert least_s * 0.95 < float(soft["light_latency_s"]) < float(soft["latency_s"]) < 10 * least_s
    for asked in ({"techniques": "emulated"}, {"precision": "fp32"}):  # of whole numbers; without floats
        with pytest.raises(wl.WaferlineError, match=r"float|fp32"):
            wl.run(wl.Scenario(model="resnet-8", machine="gap8", **asked))


def _change(techniques: str, key: str, **options: object) -> float:
    return float(_solve(techniques, **options)[key] / _solve(None, **options)[key])


def test_a_narrower_cache_is_read_and_held_in_its_format() -> None:
    wide, narrow = _solve(None, 64), _solve("kv-format:format=fp8", 64)
    assert narrow["kv_cache_bytes"] == pytest.approx(float(wide["kv_cache_bytes"]) / 2)
    assert narrow["itl_s"] == _solve(None, 64, kv="fp8")["itl_s"]


def test_what_each_other_technique_does_by_its_own_arithmetic() -> None:
    long = {"batch": 8}
    assert _change("layer-skip:share=0.5", "light_itl_s", **long) == pytest.approx(
        0.5, abs=0.06
    )  # embedding and head stay
    assert 0.5 < _change("pruning:2:4", "light_itl_s") < 0.65  # index of two bits in sixteen, head whole
    slow = [
        wl.ServingModel().solve("llama-2-7b", "m2-pro-cpu", 64, techniques=t)["light_itl_s"]
        for t in ("translated", None)
    ]
    assert slow[0] / slow[1] == pytest.approx(13.94 / 7.39)  # Rosetta 2 over native
    assert _change("pruning", "device_weights_bytes") == pytest.approx(
        0.62, abs=0.01
    )  # 0.5 and an index, but for the two ends
    assert _change("lora:adapters=64,rank=64", "itl_s", batch=64) > 1.05
    assert _change("lora:adapters=1,rank=1", "light_itl_s", batch=64) < 1.02
    assert _change("sparse-attention:tokens=100000", "itl_s") == 1.0
    assert _change("sparse-attention:tokens=128,estimate=0", "light_ttft_s", batch=64) < 1.0
    assert _change("sparse-attention:choose=1.1", "ttft_s", **long) > _change("sparse-attention", "ttft_s", **long)
    dense = _change("triangle-attention:layers=0", "ttft_s", **long)  # no layer, or every query sees everything
    assert dense == pytest.approx(1.0) == _change("triangle-attention:last=1000000", "ttft_s", **long)
    halves = [_change(f"triangle-attention:layers={n},padded=1", "light_ttft_s", **long) for n in (0, 0.5, 1)]
    assert halves[0] - halves[1] == pytest.approx(halves[1] - halves[2]) and halves[1] < halves[0]
    assert _change("near-memory:bandwidth=1", "itl_s", **long) == 1.0
    assert _change("near-memory:bandwidth=4", "itl_s", batch=256) < 0.9
    small = [_change(f"chunked-prefill:tokens={n}", "ttft_s", **long) for n in (64, 512, 8192)]
    assert small == sorted(small, reverse=True)
    assert small[-1] == pytest.approx(1.0, abs=0.01)
    moved = _solve("disaggregate:bandwidth=10", 1)
    assert float(moved["ttft_s"] - _solve(None, 1)["ttft_s"]) == pytest.approx(1024 * 131072 / 10e9, rel=1e-3)


def test_a_state_crosses_the_link_as_a_cache_does() -> None:
    """Mamba 2.8B keeps 64 layers of 5120 x (16 + 3) values a sequence, whatever the prompt's length."""
    moved = [
        wl.ServingModel().solve("mamba-2.8b", "h100", n, techniques="disaggregate:bandwidth=1") for n in (1024, 4096)
    ]
    plain = [wl.ServingModel().solve("mamba-2.8b", "h100", n) for n in (1024, 4096)]
    added = [float(m["ttft_s"] - p["ttft_s"]) for m, p in zip(moved, plain, strict=True)]
    assert added[0] == pytest.approx(added[1])
    assert added[0] * 1e9 == pytest.approx(64 * 5120 * 19 * 4, rel=0.1)


def test_what_stays_on_a_device_composes_with_what_its_host_holds() -> None:
    plain, halved = (_solve(t, offload="layers=8") for t in (None, "prefix-cache:hit=0.5"))
    assert halved["ttft_s"] < plain["ttft_s"]
    assert halved["host_memory_bytes"] == plain["host_memory_bytes"]


def test_uneven_experts_wait_for_the_busiest() -> None:
    mixture = {"model": "deepseek-v3", "batch": 256, "tp": 8, "ep": 8}
    even, usual, uneven = (
        _solve(t, **mixture)["itl_s"] for t in ("grouped-experts", None, "expert-imbalance:factor=3")
    )  # type: ignore[arg-type]
    assert even < usual < uneven
    with pytest.raises(wl.UnsupportedError, match="no experts"):
        _solve("grouped-experts")


def test_copies_of_experts_even_the_load_and_take_their_memory() -> None:
    """Mixtral: an expert is three matrices of 4,096 x 14,336 in each of 32 layers."""
    asked = {"tp": 4, "ep": 4, "model": "mixtral-8x7b", "batch": 64}
    uneven, even = (_solve(t, **asked) for t in ("expert-imbalance:2", "expert-load-balancing:copies=2"))
    assert even["itl_s"] < uneven["itl_s"]
    more = float(even["device_memory_bytes"] - _solve("grouped-experts", **asked)["device_memory_bytes"])
    assert more == pytest.approx(2 * 32 * 3 * 4096 * 14336 * 2, rel=0.01)


def test_a_smaller_model_reads_the_prompt() -> None:
    """A 1B model reads for an 8B one: the first token costs a fraction, decoding is as it was."""
    read = _solve("kv-prediction:auxiliary=llama-3.2-1b", 8)
    plain = _solve(None, 8)
    assert read["ttft_s"] < plain["ttft_s"] / 2
    assert read["itl_s"] == plain["itl_s"]


@pytest.mark.parametrize(
    ("model", "machine", "precision", "published", "within"),
    [  # tokens/s of one sequence: docs/profiling_data.md of T-MAC, its figures by thread, and its abstract
        ("llama-2-7b", "jetson-agx-orin-cpu", "q2_k", 15.62, 0.25),
        ("bitnet-b1.58-3b", "jetson-agx-orin-cpu", "tq2_0", 22.02, 0.25),
        ("llama-2-7b", "raspberry-pi-5", "q2_k", 5.92, 0.25),
        ("llama-2-7b", "raspberry-pi-5", "q4_0", 3.35, 0.25),
        ("bitnet-b1.58-3b", "raspberry-pi-5", "tq2_0", 11.09, 0.25),
        (
            "llama-2-7b",
            "m2-ultra-cpu",
            "q4_0",
            35.65,
            0.4,
        ),  # llama.cpp's own time of a step, which look-ups keep, is most of it
        ("llama-2-7b", "m2-ultra-cpu", "q2_k", 51.01, 0.4),
    ],
)
def test_table_look_up_is_as_fast_as_published(
    model: str, machine: str, precision: str, published: float, within: float
) -> None:
    solved = wl.ServingModel().solve(model, machine, 64, 1, precision, output_len=128, techniques="lut-gemv")
    assert 1 / float(solved["itl_s"]) == pytest.approx(published, rel=within)


def test_table_look_up_refuses_what_it_is_not_for(capsys: pytest.CaptureFixture[str]) -> None:
    for line, said in (
        ("llama-2-7b --on h100 -p int4", "kernel of processors"),
        ("llama-2-7b --on raspberry-pi-5 -p q8_0", "more than 4 bits"),
    ):
        assert run(["predict", *line.split(), "--with", "lut-gemv"]) == 2
        assert said in capsys.readouterr().err
