"""What stands around a model: each law against a number that somebody else published, or a simulation that knows no formula."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
import pytest

import waferline as wl


@pytest.mark.parametrize(
    ("flops", "parameters", "tokens"),
    [(1.92e19, 400e6, 8.0e9), (1.21e20, 1e9, 20.2e9), (1.23e22, 10e9, 205.1e9), (5.76e23, 67e9, 1.5e12), (1.27e26, 1e12, 21.2e12)],
)  # fmt: skip
def test_a_budget_trains_the_model_of_hoffmanns_third_table(flops: float, parameters: float, tokens: float) -> None:
    r = wl.ScalingModel().solve(flops)
    assert r.optimal_parameters == pytest.approx(parameters, rel=0.05)
    assert 20.0 <= tokens / parameters <= 22.4  # the table's own ratios, of which the law takes the first
    assert r["optimal_tokens"] == pytest.approx(tokens, rel=0.1)


def test_tokens_follow_where_the_model_is_chosen() -> None:
    """Llama 3.1 405B: 3.8e25 FLOPs and 15.6 trillion tokens (its paper, sections 1 and 3.2)."""
    assert wl.ScalingModel().solve("3.8e25 flop", 405e9)["optimal_tokens"] == pytest.approx(15.6e12, rel=0.01)


def test_sixteen_thousand_gpus_are_interrupted_every_three_hours() -> None:
    """Llama 3: 419 interruptions in 54 days on 16,384 GPUs, one every three hours."""
    r = wl.ReliabilityModel().solve(wl.Fleet("h100", 16384), 54 * 24)
    assert r.expected_failures == pytest.approx(419, rel=1e-3)
    assert r.fleet_mtbf.to("hour").magnitude == pytest.approx(3.0, rel=0.05)


def test_a_projection_of_the_research_clusters_holds() -> None:
    """Kokolis et al. 2024 project a mean time to failure of 1.8 hours for 16,384 GPUs of their first cluster."""
    r = wl.ReliabilityModel().solve(wl.Fleet("a100", 16384), 24, rate="rsc-1-a100")
    assert r.fleet_mtbf.to("hour").magnitude == pytest.approx(1.8, rel=0.02)


def test_the_checkpoint_interval_loses_least() -> None:
    """Any other interval loses more, in the exact expectation for exponential failures (Daly 2006, equation 20)."""
    fleet, save, restart = wl.Fleet("h100", 16384), 60.0, 300.0
    r = wl.ReliabilityModel().solve(fleet, 1000, save, restart)
    mtbf, best = float(r["fleet_mtbf_s"]), float(r["checkpoint_interval_s"])

    def wall(interval: float) -> float:
        return mtbf * np.exp(restart / mtbf) * np.expm1((interval + save) / mtbf) / interval

    around = [wall(best * f) for f in (0.5, 0.8, 0.95, 1.0, 1.05, 1.25, 2.0)]
    assert min(around) == around[3]
    assert 1 / wall(best) == pytest.approx(float(r["goodput_ratio"]), abs=0.01)


def test_a_trillion_parameters_save_what_megatron_saved() -> None:
    """13.8 TB, written at 273 GB/s (Narayanan et al. 2021, section 5.10): 50 s."""
    size = 1.008e12 / 7.95e9  # Llama-3-8B's weights are known here; the law is linear in them
    r = wl.CheckpointModel().solve("llama-3-8b", n_writers=3072, filesystem_limit_gbs=273, writer_gbs=1)
    assert r["checkpoint_bytes"] * size == pytest.approx(13.8e12, rel=0.04)
    assert bool(r["storage_bottleneck"])


def _waits(
    rate: float, service: Callable[[np.random.Generator, int], np.ndarray], replicas: int, n: int = 400_000
) -> np.ndarray:
    """Latencies of a queue that is really run: first come, first served, whichever replica is free."""
    random = np.random.default_rng(7)
    arrivals, times = np.cumsum(random.exponential(1 / rate, n)), service(random, n)
    free, out = [0.0] * replicas, np.empty(n)
    for i, (at, s) in enumerate(zip(arrivals, times, strict=True)):
        end = max(at, heapq.heappop(free)) + s
        heapq.heappush(free, end)
        out[i] = end - at
    return out[n // 10 :]


@pytest.mark.parametrize(("cv", "replicas"), [(1.0, 1), (1.0, 8), (0.0, 1)])
def test_percentiles_agree_with_a_queue_that_is_run(cv: float, replicas: int) -> None:
    rate, mean = 0.8 * replicas / 0.1, 0.1
    ran = _waits(rate, lambda g, n: g.exponential(mean, n) if cv else np.full(n, mean), replicas)
    r = wl.TailLatencyModel().solve(rate, mean * 1e3, replicas, cv)
    assert r["mean_latency_s"] == pytest.approx(ran.mean(), rel=0.03)
    assert r["p50_latency_s"] == pytest.approx(np.quantile(ran, 0.5), rel=0.12)
    assert r["p99_latency_s"] == pytest.approx(np.quantile(ran, 0.99), rel=0.06)


def test_the_share_that_waits_is_erlangs() -> None:
    """Ten servers offered eight Erlang: 0.409 of all arrivals wait (tables of the Erlang C formula)."""
    r = wl.TailLatencyModel().solve(8.0, 1000.0, 10, slo_ms=1000.0)
    assert r["wait_probability"] == pytest.approx(0.409, abs=5e-4)
    assert r["slo_violation_probability"] >= np.exp(-1) - 1e-3  # the service alone


def test_an_overloaded_queue_says_so_and_everything_broadcasts() -> None:
    r = wl.TailLatencyModel().solve([[5.0], [20.0]], 100.0, [1, 4])
    assert r["is_stable"].tolist() == [[True, True], [False, True]]
    assert np.isinf(r["p99_latency_s"][1, 0])
    one = wl.TailLatencyModel().solve(5.0, 100.0, 4)
    assert r["p99_latency_s"][0, 1] == one["p99_latency_s"]


def test_carbon_of_trainings_is_what_their_authors_report() -> None:
    """BLOOM: 433,196 kWh at 57 g/kWh are 24.7 t (Luccioni et al. 2022)."""
    devices = 384
    days = 433_196e3 / (devices * 400.0) / 24
    r = wl.SustainabilityModel().solve(wl.Fleet("a100", devices), days, "france", pue=1.0, power_w=400.0)
    assert r["it_energy_kwh"] == pytest.approx(433_196, rel=1e-6)
    assert r["carbon_kg"] == pytest.approx(24_690, rel=0.02)  # 56 g/kWh in our table of 2023


def test_owning_costs_what_its_parts_do_and_cheap_clean_regions_win() -> None:
    fleet = wl.Fleet("h100", 8)
    r = wl.EconomicsModel().solve(fleet, 365, 0.08, "us-central1", maintenance_share=0.05)
    assert float(r["tco_usd"]) == pytest.approx(
        sum(float(r[k]) for k in ("capex_usd", "energy_usd", "maintenance_usd"))
    )
    best = wl.PlacementOptimizer().solve(fleet, 365, kwh_price=0.08)
    assert best.best_region == "europe-north2"  # the cleanest of the table at one price
    with pytest.raises(wl.InvalidInputError, match="kwh_price"):
        wl.EconomicsModel().solve(fleet, 365, None, "france")
    with pytest.raises(wl.UnknownNameError, match="us-central1"):
        wl.SustainabilityModel().solve(fleet, 1, "us-central-1")


@pytest.mark.parametrize(("side", "dimensions", "name"), [(8, 3, "torus_3d"), (16, 2, "torus_2d"), (64, 1, "ring")])
def test_a_torus_is_cut_where_its_links_are(side: int, dimensions: int, name: str) -> None:
    """Every link of the torus laid out; those between its halves counted, one direction."""
    nodes = np.stack(np.meshgrid(*[np.arange(side)] * dimensions, indexing="ij")).reshape(dimensions, -1)
    crossing = sum(
        int(((nodes[0] < side // 2) != ((nodes[0] + (d == 0)) % side < side // 2)).sum()) for d in range(dimensions)
    )
    r = wl.TopologyModel().solve("1 GB/s", name, side**dimensions)
    assert r.bisection_bw.to("GB/s").magnitude == pytest.approx(crossing)


def test_accelerators_wait_for_the_slowest_part() -> None:
    r = wl.DataModel().solve(["1 GB/s", "4 GB/s"][1], "8 GB/s", processor="2 GB/s")
    assert r.bottleneck == "processor"
    assert r.accelerator_utilization == pytest.approx(0.5)


def test_training_over_a_fleet_is_the_training_model_with_all_devices() -> None:
    fleet = wl.Fleet("a100", 64)
    r = wl.DistributedModel().solve("gpt-3-175b", fleet, 1536, tp_size=8, pp_size=8, seq_len=2048)
    same = wl.TrainingModel().solve("gpt-3-175b", "a100", 2048, 1536, tp=8, pp=8, dp=1)
    assert r["step_time_s"] == same["step_time_s"]
    assert 0 < float(wl.DistributedModel().solve("llama-3-8b", fleet, 512, tp_size=8)["scaling_efficiency"]) < 1.05
    best = wl.ParallelismOptimizer().solve("llama-2-13b", fleet, 512)
    assert best.best_config["tp"] * best.best_config["pp"] * best.best_config["dp"] == 64
    assert best.top_candidates[0]["tokens_per_s"] == max(c["tokens_per_s"] for c in best.top_candidates)
    with pytest.raises(wl.InvalidInputError, match="no multiple"):
        wl.DistributedModel().solve("llama-3-8b", fleet, 512, tp_size=3)


def test_the_network_binds_below_the_break_even_batch() -> None:
    few, many = (
        wl.NetworkRooflineModel().solve("llama-3-8b", wl.Fleet("h100", 64), batch_size=64 * n, seq_len=512)
        for n in (1, 64)
    )
    edge = float(few["break_even_batch"])
    assert (few.bottleneck == "network") == (edge > 1)
    assert (many.bottleneck == "compute") == (edge <= 64)


def test_the_best_batch_holds_the_goal_and_one_more_does_not() -> None:
    r = wl.BatchingOptimizer().solve("llama-3-8b", "h100", 1024, 12.0, 1.0)
    at, above = (
        float(wl.ServingModel().solve("llama-3-8b", "h100", 1024, b, output_len=256)["itl_s"])
        for b in (r.best_batch_size, r.best_batch_size + 1)
    )
    assert at <= 12e-3
    assert above > 12e-3 or r.best_batch_size == 256
    assert not wl.BatchingOptimizer().solve("llama-3-8b", "h100", 1024, 0.1).is_feasible


def test_thinking_longer_costs_time_and_energy_in_proportion() -> None:
    short, long = (wl.InferenceScalingModel().solve("llama-3-8b", "h100", steps) for steps in (4, 16))
    assert long["tokens_generated"] == 4 * short["tokens_generated"]
    assert 3.5 < float(long["total_s"] / short["total_s"]) < 4.5
    served = wl.ContinuousBatchingModel().solve("llama-3-8b", "h100", 1024)
    assert served.throughput_tokens_per_sec > 0
    assert served.max_active_requests >= 1


def test_a_pipeline_hands_answers_on_by_name_and_calls_back() -> None:
    seen: list[str] = []
    pipe = wl.Pipeline([wl.ReliabilityModel(), wl.SustainabilityModel()], [lambda name, _: seen.append(name)])
    answers = pipe.run(fleet=wl.Fleet("h100", 8), job_duration_hours=24, duration_days=1)
    assert seen == ["ReliabilityModel", "SustainabilityModel"]
    assert answers["SustainabilityModel"]["it_energy_kwh"] == pytest.approx(8 * 0.7 * 24)
    assert "needs fleet, job_duration_hours" in pipe.explain()
    with pytest.raises(wl.InvalidInputError, match="needs fleet"):
        pipe.run(duration_days=1)
    with pytest.raises(wl.InvalidInputError, match="no model of the pipeline reads colour"):
        pipe.run(fleet=wl.Fleet("h100", 8), job_duration_hours=24, duration_days=1, colour="red")
