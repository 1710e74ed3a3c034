"""What a row leaves to its benchmark: lengths, limits, convergence, groups of devices; and how wide that makes an answer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.evidence.test_scenario import DECODE, MLPERF, SUBMITTED

from waferline.evidence import benchmarks
from waferline.evidence.answer import Answer, widened
from waferline.evidence.ask import ask
from waferline.evidence.groups import fastest
from waferline.evidence.request import Request
from waferline.evidence.scenario import request_of


def _request(row) -> Request:  # type: ignore[no-untyped-def]
    found = request_of(row)
    assert isinstance(found, Request), found
    return found


def _value(request: Request) -> float:
    answer = ask([request])[0]
    assert isinstance(answer, Answer), answer
    return answer.value


def test_groups_that_are_not_stated_use_all_devices_and_none_stated_is_faster() -> None:
    best = _request(replace(MLPERF, model="llama-3.1-8b", notes="batch: MLPerf Offline; input_len: CNN/DailyMail"))
    assert best.tp * best.pp * best.dp == 8 and best.guesses == ("group", "benchmark")
    assert any("the fastest by this model" in said for said in best.assumed)
    for tp, pp in ((1, 1), (2, 1), (8, 1), (1, 8)):
        assert _value(replace(best, tp=tp, pp=pp, dp=8 / tp / pp)) <= _value(best) * (1 + 1e-9)


def test_a_narrower_limit_of_latency_runs_fewer_sequences() -> None:
    offline, server, interactive = (
        _request(replace(MLPERF, notes=MLPERF.notes.replace("Offline", scenario)))
        for scenario in ("Offline", "Server", "Interactive")
    )
    assert interactive.batch < server.batch < math.inf == offline.batch
    tokens = [_value(replace(r, answer="output_tokens_per_s")) for r in (interactive, server, offline)]
    assert tokens == sorted(tokens)
    assert any("its limit of latency" in said for said in interactive.assumed)


def test_what_no_group_holds_is_refused() -> None:
    alone = replace(_request(MLPERF), hardware="nvidia-rtx-4090", tp=1.0, pp=1.0, ep=1.0, dp=1.0)
    assert "does not fit 1 of" in str(fastest(alone, 1, None, None))


def test_convergence_lies_between_the_reference_points_of_its_batches() -> None:
    rules = benchmarks.training(SUBMITTED)
    assert (rules.to_converge(8), rules.to_converge(16), rules.to_converge(1)) == (3187, 4051, 3187)
    assert 3187 < (rules.to_converge(12) or 0) < 4051
    assert benchmarks.training(DECODE).to_converge(8) is None


def test_a_run_to_target_quality_takes_its_samples_at_the_rate_of_its_steps() -> None:
    run, rate = _request(SUBMITTED), _request(replace(SUBMITTED, metric="samples_per_s"))
    assert _value(run) == pytest.approx(3187 / _value(rate))


def test_beams_share_a_prompt_and_cost_steps() -> None:
    one = _request(replace(MLPERF, model="gpt-j-6b", notes="batch: MLPerf Offline; input_len: CNN/DailyMail"))
    assert one.beams == 4
    assert 1 < _value(replace(one, beams=1)) / _value(one) < 4


def test_a_guess_widens_an_interval_and_never_beyond_the_bound() -> None:
    rate = Answer(100.0, 80.0, 125.0, 130.0, "calibrated")
    wide = widened(rate, 0.5)
    assert wide.low90 == pytest.approx(100 * math.exp(-math.hypot(math.log(1.25), 0.5)))
    assert wide.high90 == 130.0 and (wide.value, wide.light) == (rate.value, rate.light)
    time = widened(Answer(1.0, 0.9, 1.1, 0.8, "calibrated"), 0.5)
    assert time.low90 == 0.8 and time.high90 > 1.5
    assert widened(rate, 0.0) == rate


def test_an_answer_of_which_devices_were_guessed_is_wider_than_one_that_states_them() -> None:
    plain = _request(DECODE)
    known, guessed = ask([plain, replace(plain, guesses=("devices",))])
    assert isinstance(known, Answer) and isinstance(guessed, Answer)
    assert guessed.low90 < known.low90 and guessed.high90 > known.high90 and guessed.value == known.value


def test_energy_of_a_sample_is_the_power_of_a_microcontroller_over_its_rate() -> None:
    tiny = replace(
        DECODE, model="mlperf-tiny-kws", hardware="stm32l4r5", phase="serve", batch=1, weight_format="int8",
        activation_format="int8", engine="x",
    )  # fmt: skip
    joules = _value(_request(replace(tiny, metric="energy_j_per_sample")))
    seconds = _value(_request(replace(tiny, metric="latency_s")))
    assert 0.01 < joules / seconds <= 0.051  # watts of the board's limit
