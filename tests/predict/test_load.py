"""Pieces forms of serving: laws that hold whatever the numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from waferline.predict.load import Habits, Pieces, burst_load, closed_load, full_load_tokens_per_s, held_share

seconds = st.floats(1e-4, 10.0)


@st.composite
def loads(draw: st.DrawFn) -> Pieces:
    running = draw(st.integers(1, 512))
    prompt = draw(seconds)
    return Pieces(
        prefill_s=np.asarray(prompt),
        prompt_s=np.asarray(prompt * draw(st.floats(0.2, 1.0))),
        step_s=np.asarray(draw(seconds)),
        clients=np.asarray(float(draw(st.integers(running, 1024)))),
        running=np.asarray(float(running)),
        output_tokens=np.asarray(float(draw(st.integers(1, 8192)))),
    )


habits = st.builds(Habits, st.floats(0, 2), st.floats(0, 1), st.floats(0, 1), st.just(1.0), st.floats(0, 0.5))


@given(loads(), habits)
def test_load_only_adds_to_one_request_alone(load: Pieces, h: Habits) -> None:
    times = closed_load(load, h)
    assert times.itl_s >= load.step_s and times.ttft_s >= load.prefill_s


@given(loads(), st.floats(1.1, 4.0))
def test_clients_beyond_memory_wait_longer_for_the_first_token_alone(load: Pieces, more: float) -> None:
    h = Habits(1.0, 0.1, 0.1, 1.0, 0.0)
    crowded = Pieces(load.prefill_s, load.prompt_s, load.step_s, load.clients * more, load.running, load.output_tokens)
    assert closed_load(crowded, h).ttft_s > closed_load(load, h).ttft_s
    assert closed_load(crowded, h).itl_s == closed_load(load, h).itl_s


@given(loads())
def test_a_single_client_sees_the_model_alone(load: Pieces) -> None:
    one = np.asarray(1.0)
    alone = Pieces(load.prefill_s, load.prompt_s, load.step_s, one, one, load.output_tokens)
    times = closed_load(alone, Habits(1.0, 1.0, 1.0, 1.0, 0.0))
    assert times.itl_s == load.step_s and times.ttft_s == load.prefill_s


@given(loads())
def test_full_load_is_no_faster_than_either_phase(load: Pieces) -> None:
    rate = full_load_tokens_per_s(load)
    assert rate <= load.running / load.step_s * (1 + 1e-9)
    assert rate <= load.output_tokens / load.prompt_s * (1 + 1e-9)


@given(loads(), habits)
def test_a_burst_waits_longer_and_then_stalls_less_than_a_steady_load(load: Pieces, h: Habits) -> None:
    steady = Habits(1.0, 0.0, 0.0, 1.0, h.front_s)
    burst, closed = burst_load(load, steady), closed_load(load, steady)
    assert burst.itl_s <= closed.itl_s * (1 + 1e-12)
    assert burst.request_s >= burst.ttft_s
    if load.clients == load.running:
        assert burst.ttft_s >= closed.ttft_s * (1 - 1e-12)


@given(loads(), habits)
def test_loads_broadcast(load: Pieces, h: Habits) -> None:
    many = Pieces(
        *(
            np.stack([x, x])
            for x in (load.prefill_s, load.prompt_s, load.step_s, load.clients, load.running, load.output_tokens)
        )
    )
    for form in (closed_load, burst_load):
        assert (form(many, h).ttft_s == form(load, h).ttft_s).all()


@given(st.floats(1, 1e5), st.floats(1, 1e5), st.floats(0, 1))
def test_memory_holds_most_when_nothing_is_reserved(inputs: float, outputs: float, reserve: float) -> None:
    share = held_share(np.asarray(inputs), np.asarray(outputs), reserve)
    assert 1.0 - 1e-12 <= share <= held_share(np.asarray(inputs), np.asarray(outputs), 0.0) * (1 + 1e-12) <= 2.0 + 1e-9
