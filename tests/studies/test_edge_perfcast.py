"""Memory benchmarks of Sapphire Rapids: HPCG's intensity, the learned predictor and what its two tests say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import InvalidInputError
from waferline.evidence.studies.cases.cpu_predictor import Scores, error_by_machine, error_by_row, predict, predict_mean
from waferline.evidence.studies.cases.perfcast import Hpcg, streaming_share
from waferline.evidence.studies.facts import fact_rows, facts
from waferline.evidence.studies.registry import load_study, run_study
from waferline.machines.hardware import load_hardware


def test_hpcg_does_about_a_flop_every_six_or_seven_bytes():
    intensity = Hpcg.from_facts(facts("perfcast")["hpcg"]).flops_per_byte
    assert 54 / 348 * 0.95 < intensity < 54 / (27 * 12)  # between a pass with vectors and the matrix alone


def test_no_stream_is_faster_than_the_memory():
    for name in ("intel-xeon-8480plus", "nvidia-h100-sxm-80gb", "raspberry-pi-5"):
        assert 0.2 < streaming_share(load_hardware(name)) <= 1.0


def test_rows_are_of_one_kind_and_their_noise_is_small():
    rows = fact_rows("perfcast")
    assert len(rows) == len({(r["pod"], r["metric"]) for r in rows}) == 49
    for r in rows:
        low, mean, high = (float(r[k]) for k in ("least", "mean", "largest"))
        assert low <= mean <= high and (high - low) / mean < 0.02


def table(seed, machines=6, metrics=3, copies=3, noise=0.0):
    """Scores that follow a power law of the features, a factor a metric."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((machines, 2))
    rows = [(m, k) for m in range(machines) for k in range(metrics) for _ in range(copies)]
    score = np.array([np.exp(features[m] @ [0.7, -0.4] + k + noise * rng.standard_normal()) for m, k in rows])
    return Scores(features[[m for m, _ in rows]], [f"k{k}" for _, k in rows], [f"m{m}" for m, _ in rows], score)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 500))
def test_a_law_that_holds_for_all_machines_is_learned(seed):
    rows = table(seed, machines=12)
    test = rows.take(np.flatnonzero(np.array(rows.machine) == "m0"))
    train = rows.take(np.flatnonzero(np.array(rows.machine) != "m0"))
    ours, mean = (np.abs(f(train, test) / test.score - 1).mean() for f in (predict, predict_mean))
    assert ours < mean or mean < 0.2


def test_random_rows_flatter_a_predictor_that_knows_nothing():
    rng = np.random.default_rng(0)
    rows = table(0, machines=4, metrics=1, copies=3)
    noise = np.repeat(np.exp(rng.standard_normal(4)), 3)  # a machine's own factor, which no feature explains
    rows = Scores(rows.features, rows.metric, rows.machine, noise)
    assert error_by_machine(rows) > 1.5 * error_by_row(rows)


def test_iterations_come_back_from_their_mean_and_ends():
    hardware = {"cores_per_socket": "4", "all_core_ghz": "2", "dimms": "2", "dimm_gb": "8", "mt_per_s": "4800"}
    row = {**hardware, "hardware": "m", "suite": "s", "metric": "x", "iterations": "3", "mean": "2", "least": "1"}
    rows = Scores.of_iterations([{**row, "largest": "3.5"}])
    assert sorted(rows.score.tolist()) == [1.0, 1.5, 3.5] and rows.metric == ["s x"] * 3


def test_a_metric_that_was_never_seen_is_not_predicted():
    rows = table(0)
    other = Scores(rows.features[:1], ["unseen"], ["m0"], np.ones(1))
    assert np.isnan(predict(rows, other)[0]) and np.isnan(predict_mean(rows, other)[0])


def test_scores_are_positive():
    with pytest.raises(InvalidInputError, match="positive"):
        Scores(np.zeros((1, 1)), ["a"], ["b"], np.array([0.0]))


def test_the_study_holds_stream_and_mlc_and_explains_the_rest():
    report = run_study(load_study("perfcast"))
    assert all(c.why for c in report.misses)
    held = [c for c in report.checks if "8472c stream" in c.quantity or "hpcg: from MLC's reads" in c.quantity]
    assert len(held) == 6 and all(c.verdict == "compared with data" for c in held)
    assert all("noise ±" in c.quantity for c in report.checks if c.unit in ("MB/s", "GFLOP/s"))
