"""Techniques under simulated requests: one user sees what `predict` says, and what cannot be told is refused by name."""

from __future__ import annotations

import pytest

import waferline as wl
from waferline.cli import run
from waferline.errors import InvalidInputError, UnsupportedError, WaferlineError

ALONE = wl.Traffic(requests=6, clients=1, prompt=1024, output=129)
MANY = wl.Traffic(requests=300, rate_per_s=6, prompt=1024, output=128)


def _served(
    techniques: object,
    traffic: wl.Traffic = MANY,
    model: str = "llama-3-8b",
    options: wl.ServerOptions | None = None,
    **more: object,
) -> dict[str, float]:
    machine = more.pop("machine", "h100")
    scenario = wl.Scenario(model=model, machine=machine, techniques=techniques, intervals=False, **more)  # type: ignore[arg-type]
    return dict(wl.simulate_serving(scenario, traffic, options).values)


@pytest.mark.parametrize(
    "techniques",
    [
        "eagle:tokens=3,accepted=2.5",
        "speculative:draft=llama-3.2-1b,accepted=3",
        "kv-format:format=fp8",
        "pruning",
        "sparse-attention:tokens=256",
        "lora:adapters=1,rank=64",
        "layer-skip:share=0.5",
    ],
)
def test_one_user_sees_what_predict_says(techniques: str) -> None:
    in_turn = wl.ServerOptions(async_scheduling=False)  # `predict`'s engine waits for its host
    served, plain = (_served(t, ALONE, options=in_turn) for t in (techniques, None))
    asked = {"techniques": techniques, "batch_size": 1, "output_len": 129}
    said = wl.ServingModel().solve("llama-3-8b", "h100", 1024, precision="bf16", **asked)  # type: ignore[arg-type]
    usual = wl.ServingModel().solve("llama-3-8b", "h100", 1024, precision="bf16", **(asked | {"techniques": None}))  # type: ignore[arg-type]
    # What clients and the process in front add is the same with and without: the change of a token's time is compared.
    assert served["tpot_mean_s"] - plain["tpot_mean_s"] == pytest.approx(
        float(said["itl_s"] - usual["itl_s"]), rel=0.05, abs=0.02 * float(usual["itl_s"])
    )


def test_speculation_pays_with_few_users_and_not_with_many() -> None:
    asked = "eagle:tokens=7,accepted=2"
    few = [_served(t, ALONE)["output_tokens_per_s"] for t in (None, asked)]
    flood = wl.Traffic(requests=600, prompt=256, output=128)
    many = [_served(t, flood)["output_tokens_per_s"] for t in (None, asked)]
    assert few[1] / few[0] > 1.2 > 1.0 > many[1] / many[0]


def test_every_token_is_made_whatever_a_cycle_yields() -> None:
    for gain in (1.0, 1.7, 2.5, 4.0):
        seen = _served(f"ngram:tokens=3,accepted={gain}")
        assert seen["output_tokens_per_s"] * seen["duration_s"] == pytest.approx(300 * 128)


def test_techniques_of_the_schedule_set_what_the_options_set() -> None:
    scenario = wl.Scenario(model="llama-3-8b", machine="h100", intervals=False)
    pairs: list[tuple[str, dict[str, object]]] = [
        ("chunked-prefill:tokens=256", {"max_num_batched_tokens": 256, "chunked": True}),
        ("disaggregate:bandwidth=10", {"prefill_replicas": 1, "kv_link": "10GB/s"}),
    ]
    for technique, options in pairs:
        by_option = wl.simulate_serving(scenario, MANY, wl.ServerOptions(**options)).values  # type: ignore[arg-type]
        seen = {
            k: v for k, v in _served(technique).items() if k.endswith(("_s", "steps", "share", "bytes"))
        }  # watts are a pass's own
        assert seen == {k: by_option[k] for k in seen}
    with pytest.raises(InvalidInputError, match="say the same twice"):
        wl.simulate_serving(
            wl.Scenario(model="llama-3-8b", machine="h100", techniques="chunked-prefill"),
            MANY,
            wl.ServerOptions(max_num_batched_tokens=64),
        )


def test_a_prefix_is_read_once_and_found_by_all_others() -> None:
    plain, half = _served(None), _served("prefix-cache:hit=0.5")
    assert plain["prefix_hit_share"] == 0.0
    assert half["prefix_hit_share"] == pytest.approx(
        0.5 * 299 / 300, abs=0.02
    )  # but for whole blocks and those before it
    assert half["ttft_mean_s"] < plain["ttft_mean_s"]
    with pytest.raises(InvalidInputError, match="the traffic says"):
        _served("prefix-cache", wl.Traffic(requests=20, shared=64))


def test_uneven_experts_slow_a_server_and_a_host_holds_what_does_not_fit() -> None:
    flood = {"traffic": wl.Traffic(requests=100, prompt=256, output=32), "model": "mixtral-8x7b", "machine": "h200"}
    even, half, usual, uneven = (
        _served(t, **flood, tp=2, ep=2)["output_tokens_per_s"]  # type: ignore[arg-type]
        for t in ("grouped-experts", "expert-imbalance:factor=1.5", None, "expert-imbalance:factor=2")
    )
    assert even > half > uneven == usual  # four of eight experts on each: a power law leaves all to one
    few = {
        "traffic": wl.Traffic(requests=4, clients=1, prompt=128, output=33),
        "model": "mixtral-8x7b",
        "precision": "q4_k_m",
    }
    more, less = (_served(f"offload:layers={n}", **few, machine="rtx-4090")["tpot_mean_s"] for n in (10, 20))  # type: ignore[arg-type]
    told = wl.ServingModel().solve(
        "mixtral-8x7b", "rtx-4090", 128, 1, "q4_k_m", output_len=33, offload="layers=20", engine="llama.cpp"
    )
    assert more > less == pytest.approx(float(told["itl_s"]), rel=0.05)


@pytest.mark.parametrize(
    ("techniques", "error", "said"),
    [
        ("kv-prediction:auxiliary=llama-3.2-1b", UnsupportedError, "kv-prediction is not simulated"),
        ("eagle+mtp", InvalidInputError, "eagle and mtp: both"),
        ("grouped-experts", UnsupportedError, "no experts"),
        ("lut-gemv", UnsupportedError, "kernel of processors"),
    ],
)
def test_what_cannot_apply_is_refused_by_name(techniques: str, error: type[WaferlineError], said: str) -> None:
    with pytest.raises(error, match=said):
        _served(techniques)


def test_the_command_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["simulate", "serving", "llama-3-8b", "--on", "h100", "--requests", "20", "--output", "16"]
    assert run([*line, "--with", "eagle:accepted=2", "--with", "lora"]) == 0
    assert "eagle" in capsys.readouterr().out


def test_replicas_that_read_prompts_may_have_degrees_of_their_own() -> None:
    asked = wl.Scenario(model="llama-3-70b", machine="b200", tp=8, precision="fp8", intervals=False)
    alone = wl.Traffic(requests=5, clients=1, prompt=8192, output=64)
    wide, half = (
        dict(
            wl.simulate_serving(
                asked, alone, wl.ServerOptions(prefill_replicas=1, prefill_tp=tp, async_scheduling=False)
            ).values
        )
        for tp in (None, 4)
    )
    said = [
        wl.ServingModel().solve("llama-3-70b", "b200", 8192, precision="fp8", output_len=64, tp=tp)["ttft_s"]
        for tp in (4, 8)
    ]
    assert half["ttft_p50_s"] - wide["ttft_p50_s"] == pytest.approx(float(said[0] - said[1]), rel=0.1)
    assert half["tpot_p50_s"] == pytest.approx(wide["tpot_p50_s"])  # as many generate
    assert (half["devices"], wide["devices"]) == (12, 16)
    with pytest.raises(InvalidInputError, match="prefill_tp would not be read"):
        wl.simulate_serving(asked, alone, wl.ServerOptions(prefill_tp=4))
    with pytest.raises(WaferlineError, match="does not fit"):
        small = wl.Scenario(model="llama-3-70b", machine="h100", tp=8, intervals=False)
        wl.simulate_serving(small, alone, wl.ServerOptions(prefill_replicas=1, prefill_tp=1))


def test_a_tree_of_drafts_is_verified_as_a_whole() -> None:
    chain, tree = (_served(f"eagle:tokens=4,accepted=3{more}") for more in ("", ",verified=64"))
    assert tree["tpot_mean_s"] > chain["tpot_mean_s"]
    with pytest.raises(InvalidInputError, match="hold no path of 4 drafts"):
        _served("eagle:tokens=4,verified=2")
