"""Closed forms of serving: laws that hold whatever the numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from waferline.evidence.load import Closed, Habits, closed_load, full_load_tokens_per_s

seconds = st.floats(1e-4, 10.0)


@st.composite
def loads(draw: st.DrawFn) -> Closed:
    running = draw(st.integers(1, 512))
    prompt = draw(seconds)
    return Closed(
        prefill_s=np.asarray(prompt),
        prompt_s=np.asarray(prompt * draw(st.floats(0.2, 1.0))),
        step_s=np.asarray(draw(seconds)),
        clients=np.asarray(float(draw(st.integers(running, 1024)))),
        running=np.asarray(float(running)),
        output_tokens=np.asarray(float(draw(st.integers(1, 8192)))),
    )


habits = st.builds(Habits, st.floats(0, 2), st.floats(0, 1), st.floats(0, 0.5))


@given(loads(), habits)
def test_load_only_adds_to_one_request_alone(load: Closed, h: Habits) -> None:
    times = closed_load(load, h)
    assert times.itl_s >= load.step_s and times.ttft_s >= load.prefill_s


@given(loads(), st.floats(1.1, 4.0))
def test_clients_beyond_memory_wait_longer_for_the_first_token_alone(load: Closed, more: float) -> None:
    h = Habits(1.0, 0.1, 0.0)
    crowded = Closed(load.prefill_s, load.prompt_s, load.step_s, load.clients * more, load.running, load.output_tokens)
    assert closed_load(crowded, h).ttft_s > closed_load(load, h).ttft_s
    assert closed_load(crowded, h).itl_s == closed_load(load, h).itl_s


@given(loads())
def test_a_single_client_sees_the_model_alone(load: Closed) -> None:
    one = np.asarray(1.0)
    alone = Closed(load.prefill_s, load.prompt_s, load.step_s, one, one, load.output_tokens)
    times = closed_load(alone, Habits(1.0, 1.0, 0.0))
    assert times.itl_s == load.step_s and times.ttft_s == load.prefill_s


@given(loads())
def test_full_load_is_no_faster_than_either_phase(load: Closed) -> None:
    rate = full_load_tokens_per_s(load)
    assert rate <= load.running / load.step_s * (1 + 1e-9)
    assert rate <= load.output_tokens / load.prompt_s * (1 + 1e-9)
