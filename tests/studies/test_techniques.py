"""Techniques: laws of their cost models, and references that must be exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.evidence.studies.cases import (
    duplex,
    expert_offload,
    kv_prediction,
    kv_quantisation,
    lora_serving,
    moe_lens,
    prefix_caching,
    speculative_decoding,
    zaya,
)
from waferline.evidence.studies.cases.kv_prediction import SmallDecoder
from waferline.evidence.studies.cases.pangu_pro_moe import device_tokens, grouped_gates, top_k_gates
from waferline.evidence.studies.cases.t_mac import fit, thread_times_s
from waferline.evidence.studies.facts import facts
from waferline.predict.techniques.speculative import accepted_tokens


@given(st.integers(1, 6), st.integers(2, 12), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_cache_changes_nothing(layers: int, tokens: int, seed: int) -> None:
    model = SmallDecoder.random(layers, 8, seed)
    prompt = np.random.default_rng(seed).standard_normal((tokens, 8))
    whole, _ = model.run(prompt)
    _, cache = model.run(prompt[:-1])
    assert np.allclose(model.run(prompt[-1:], cache)[0], whole[-1:])
    identity = [(np.eye(8), np.eye(8))] * layers
    assert np.allclose(kv_prediction.first_token(model, model, identity, range(layers), prompt), whole[-1:])


def test_a_wrong_map_changes_the_output() -> None:
    model, prompt = SmallDecoder.random(2, 8, 0), np.random.default_rng(0).standard_normal((6, 8))
    doubled = [(2 * np.eye(8), np.eye(8))] * 2
    assert not np.allclose(
        kv_prediction.first_token(model, model, doubled, range(2), prompt), model.run(prompt)[0][-1:]
    )


def test_layers_that_are_left_out_leave_the_rest_as_it_was() -> None:
    """Table 5 of arXiv:2410.08391: 3.84 times fewer operations with a quarter of the layers of the 3B model."""
    assert kv_prediction.flops_ratio("3B", 0.25) == pytest.approx(3.84, abs=0.005)
    assert kv_prediction.flops_ratio("1.1B", "1.1B") == 1.0


@given(st.integers(1, 40), st.sampled_from([1, 2, 4, 8]), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_grouped_routing_balances_and_keeps_k(tokens: int, groups: int, seed: int) -> None:
    logits = np.random.default_rng(seed).standard_normal((tokens, 64))
    gates = grouped_gates(logits, 8, groups)
    assert np.all((gates > 0).sum(axis=1) == 8)
    assert len(set(device_tokens(gates, groups).tolist())) == 1
    best = np.sort(top_k_gates(logits, 8), axis=1)[:, -8:]
    assert np.all(best.sum(axis=1) >= gates.sum(axis=1) - 1e-12)


@given(st.integers(50, 2000), st.integers(8, 300), st.integers(50, 5000))
@settings(max_examples=25, deadline=None)
def test_no_finite_batch_beats_the_offload_bound(prompt: int, output: int, requests: int) -> None:
    machine = moe_lens.Offload(sweep_s=5.0, gpu_tokens_per_s=4000.0, kv_tokens=500_000.0)
    rate = moe_lens.simulate_tokens_per_s(machine, prompt, output, requests)
    assert 0 < rate <= machine.bound_tokens_per_s(prompt, output) * 1.001


def test_a_request_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="exceed"):
        moe_lens.simulate_tokens_per_s(moe_lens.Offload(5.0, 4000.0, 100.0), 98, 32, 10)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=12), st.floats(1e6, 1e9))
@settings(max_examples=50, deadline=None)
def test_splitting_is_never_slower_than_one_side_alone(tokens: list[int], size: float) -> None:
    processor, memory = duplex.Unit(1e15, 3e12), duplex.Unit(1e14, 1.3e13)
    both = duplex.split_s(tokens, size, processor, memory)
    flops = [2.0 * n * size for n in tokens if n]
    alone = [float(sum(u.time_s(f, 2.0 * size) for f in flops)) for u in (processor, memory)]
    assert both <= min(alone) + 1e-12


def test_collectives_decline_below_what_was_fitted() -> None:
    sizes = np.array([2.0**k for k in range(25, 33)])
    truth = zaya.Protocol(60e-6, 318e9, 8, 2.0**25)
    found = zaya.fit(sizes, truth.time_s(sizes), 8)
    assert found.latency_s == pytest.approx(60e-6) and found.bytes_per_s == pytest.approx(318e9)
    with pytest.raises(UnsupportedError, match="below"):
        found.time_s(2.0**24)


@given(st.floats(0.01, 0.99), st.integers(1, 20))
def test_speculation_yields_between_one_and_all_tokens(acceptance: float, drafted: int) -> None:
    assert 1.0 <= accepted_tokens(drafted, acceptance, None) <= drafted + 1
    assert speculative_decoding.operations(acceptance, drafted) >= 1.0 - 1e-12


@given(st.integers(0, 200))
def test_speculative_sampling_keeps_the_target(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, draft = rng.dirichlet(np.ones(9), 3), rng.dirichlet(np.full(9, 0.1), 3)
    assert np.allclose(speculative_decoding.output_distribution(target, draft), target)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 64))
def test_prefix_sharing_saves_less_than_everything(shared: int, own: int, sequences: int) -> None:
    saved = float(prefix_caching.kv_saved(shared, own, sequences))
    assert -1e-12 <= saved < 1.0
    assert 1.0 - 1e-9 <= float(prefix_caching.attention_speed_up_bound(shared, own, sequences)) <= sequences + 1e-6


@given(st.integers(1, 100_000))
def test_a_quantised_cache_is_never_larger(tokens: int) -> None:
    share = float(kv_quantisation.KvFormat().share(tokens))
    assert 3.0 / 16.0 <= share <= 1.0
    assert (share == 1.0) == (tokens <= 128)


@pytest.mark.parametrize(("cached", "chosen"), [(2, 1), (4, 2), (6, 2)])
def test_a_cache_of_experts_hits_as_the_closed_form_says(cached: int, chosen: int) -> None:
    simulated = expert_offload.lru_hit_ratio(8, chosen, cached, 4000)
    assert simulated == pytest.approx(expert_offload.uniform_hit_ratio(8, chosen, cached), abs=0.02)
    sticky = expert_offload.lru_hit_ratio(8, chosen, cached, 2000, stickiness=0.9)
    assert sticky > simulated


def test_adapters_cost_what_punica_says_and_more_when_they_differ() -> None:
    """Abstract of arXiv:2310.18547: 2 ms a token."""
    differ, alike, _ = lora_serving.compute(facts("lora-serving"))
    assert differ.computed == pytest.approx(2e-3, rel=0.25)
    assert alike.computed is not None and 0 < alike.computed < differ.computed


def test_lut_time_is_linear_in_bits_and_threads_meet_both_ends() -> None:
    token = fit({2.0: 50.0, 4.0: 40.0})
    assert token.time_s(2.0) == pytest.approx(1 / 50) and token.time_s(4.0) == pytest.approx(1 / 40)
    assert token.time_s(3.0) == pytest.approx((1 / 50 + 1 / 40) / 2)
    assert thread_times_s([1, 8], 0.1, 8, 0.03) == pytest.approx([0.1, 0.03])
