"""The event loop of a served replica: conservation for any rules, queueing theory where it has answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.simulate.serving.loop import serve
from waferline.simulate.serving.replica_step import SAMPLE_COLUMNS
from waferline.simulate.serving.state import (
    BUSY_S,
    FULL_S,
    FULL_TOKENS,
    RUNNING_S,
    STEPS,
    Fleet,
    Memory,
    Plan,
    Requests,
    Rules,
    cache_of,
    fleet_of,
    requests_of,
)
from waferline.simulate.serving.step_time import sequence_bytes
from waferline.simulate.serving.traffic import Traffic
from waferline.workloads.step_tables import StepTables

MIXED = Rules(8, 64, True, True, False, 0.0, 0.0, 0.0, 1e9, False, 0.0)
SCHEDULERS = {
    "vllm": MIXED,
    "vllm-v0": MIXED._replace(mixed=False, chunked=False, watermark=0.01, max_tokens=128),
    "sglang": MIXED._replace(
        mixed=False, reserve=0.7, reserve_least=0.098, reserve_steps=600.0, reserve_tokens=4096.0, evict_fewest=True
    ),
    "tensorrt-llm": MIXED._replace(chunked=False, decodes_first=True, reserve=1.0, max_tokens=128),
    "llama.cpp": MIXED._replace(decodes_first=True, reserve=1.0),
}


def steps_of(rows_s: float = 1e-3, prompt_token_s: float = 1e-5) -> StepTables:
    """A step of a fixed time, and a little for every row of a prompt."""
    grid, flat = np.array([1.0, 2.0, 1024.0]), np.zeros((3, 3))
    rows = rows_s + prompt_token_s * np.arange(4096.0)
    return StepTables(
        rows, np.zeros(1025), np.full(1025, rows_s), grid, grid, flat, grid, flat, np.zeros(4096), 0.0, 256.0
    )


_NEVER = (np.zeros(0), np.zeros(0, np.int64), np.zeros(0))  # when which replica fails for how long
ALONE = Plan(0, 0, 0.0, 0.0, 0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, *_NEVER, stop=np.zeros(1, np.int64))


def served(
    requests: Requests, rules: Rules, memory: Memory, steps: StepTables, plan: Plan = ALONE, replicas: int = 1
) -> tuple[Any, Any, Fleet, int]:
    fleet = fleet_of(replicas, requests, rules, memory, plan)
    samples, gaps, _, stuck = serve(requests, rules, memory, steps, fleet, cache_of(replicas, requests), plan)
    return samples, gaps, fleet, stuck


def _common(tokens: Any) -> tuple[Any, Any, Any]:
    """Paths of prompts that all begin alike, with so many tokens."""
    return np.arange(len(tokens) + 1), np.zeros(len(tokens), np.int64), tokens


def memory_of(tokens: float, block: int = 4) -> Memory:
    return Memory(tokens, block, 1.0, 0.0, 0.0, 0.0)


@settings(max_examples=150)
@given(
    name=st.sampled_from(sorted(SCHEDULERS)),
    lengths=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(0, 70)), min_size=1, max_size=40),
    room=st.integers(112, 400),
    places=st.integers(1, 8),
    clients=st.none() | st.integers(1, 5),
    gap_s=st.floats(0.0, 0.05),
)
def test_nothing_is_lost_made_or_overfull(
    name: str, lengths: list[tuple[int, int, int]], room: int, places: int, clients: int | None, gap_s: float
) -> None:
    prompt, output, shared = (np.array(x) for x in zip(*lengths, strict=True))
    n = len(prompt)
    then = np.full(n, -1)
    if clients is not None and n > clients:
        then[: n - clients] = np.arange(clients, n)
    requests = requests_of(np.full(n, gap_s) * (np.arange(n) if clients is None else 1.0), prompt, output,
                           nodes=_common(np.minimum(shared, prompt - 1)), then=then)  # fmt: skip
    rules = SCHEDULERS[name]._replace(max_sequences=places)
    samples, gaps, fleet, stuck = served(requests, rules, memory_of(float(room)), steps_of())
    assert stuck == -1
    assert (requests.made == output).all() and not requests.held.any()
    assert gaps.sum() == (output - 1).sum()
    assert (requests.first >= requests.arrival).all() and (requests.last >= requests.first).all()
    columns = dict(zip(SAMPLE_COLUMNS, samples.T, strict=True))
    assert (columns["memory_share"] <= 1.0).all() and (columns["running"] <= places).all()
    assert (columns["prompt_tokens"] + columns["decodes"] <= rules.max_tokens).all()
    assert rules.mixed or not (columns["prompt_tokens"] * columns["decodes"]).any()
    assert fleet.sums[0, BUSY_S] <= requests.last.max() + 1e-9 and fleet.sums[0, STEPS] >= output.max()
    assert fleet.free[0] == pytest.approx(room) and not fleet.active.any() and not fleet.waiting.any()
    if rules.reserve == 1.0:
        assert not requests.preempted.any()  # what is guaranteed is never taken back
    order = np.argsort(requests.arrival, kind="stable")
    assert (np.diff(requests.admitted[order]) >= 0.0).all()  # first come, first served


@given(seed=st.integers(0, 100), name=st.sampled_from(sorted(SCHEDULERS)))
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_run(seed: int, name: str) -> None:
    fates = []
    for _ in range(2):
        requests = Traffic(
            requests=50, rate_per_s=30.0, prompt="lognormal:20,cv=1", output="uniform:1,30", seed=seed
        ).sent()
        requests = requests._replace(prompt=np.minimum(requests.prompt, 60))
        served(requests, SCHEDULERS[name], memory_of(200.0), steps_of())
        fates.append(np.stack([requests.first, requests.last]))
    assert (fates[0] == fates[1]).all()


@pytest.mark.parametrize("load", [0.3, 0.6, 0.85])
def test_one_place_and_equal_requests_are_an_m_d_1_queue(load: float) -> None:
    service_s = 1e-3 + 16 * 1e-5
    requests = Traffic(requests=200_000, rate_per_s=load / service_s, prompt=16, output=1).sent()
    served(requests, MIXED._replace(max_sequences=1), memory_of(64.0), steps_of())
    waiting = (requests.first - requests.arrival - service_s).mean()
    assert waiting == pytest.approx(load * service_s / (2.0 * (1.0 - load)), rel=0.03)  # Pollaczek-Khinchine


def test_one_place_and_geometric_requests_are_an_m_m_1_queue() -> None:
    load, mean = 0.6, 200.0
    service_s = mean * 1e-3
    requests = Traffic(requests=50_000, rate_per_s=load / service_s, prompt=1, output=f"exponential:{mean}").sent()
    served(requests, MIXED._replace(max_sequences=1), memory_of(1e9), steps_of(prompt_token_s=0.0))
    whole = (requests.last - requests.arrival).mean()
    assert whole == pytest.approx(service_s / (1.0 - load), rel=0.04)


def test_many_places_and_geometric_requests_are_an_m_m_c_queue() -> None:
    """Steps of a fixed time serve each place at its own pace: Erlang's C says how long requests wait."""
    places, load, mean = 4, 0.8, 50.0
    service_s = mean * 1e-3
    rate = load * places / service_s
    requests = Traffic(requests=300_000, rate_per_s=rate, prompt=1, output=f"exponential:{mean}", seed=1).sent()
    served(requests, MIXED._replace(max_sequences=places), memory_of(1e9), steps_of(prompt_token_s=0.0))
    offered = load * places
    terms = np.cumprod([1.0, *(offered / k for k in range(1, places + 1))])
    erlang_c = terms[-1] / (1.0 - load) / (terms[:-1].sum() + terms[-1] / (1.0 - load))
    waits = (requests.admitted - requests.arrival).mean()
    assert waits == pytest.approx(erlang_c * service_s / (places * (1.0 - load)), rel=0.06)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_little_s_law_holds_in_a_closed_loop(name: str) -> None:
    clients = 6
    requests = Traffic(requests=20_000, clients=clients, prompt=20, output=30).sent()
    served(requests, SCHEDULERS[name], memory_of(1e9), steps_of())
    inside = (requests.last - requests.arrival).sum() / requests.last.max()
    assert inside == pytest.approx(clients, rel=0.01)


def test_a_cached_prefix_is_not_read_again_but_for_its_last_token() -> None:
    steps = steps_of()
    for common, read in ((0, 32), (16, 16), (31, 4), (30, 4)):
        requests = requests_of(np.array([0.0, 1.0]), np.full(2, 32), np.ones(2), nodes=_common(np.full(2, common)))
        served(requests, MIXED, memory_of(1e3), steps)
        assert requests.first[1] - 1.0 == pytest.approx(steps.rows_s[read])
        assert requests.hits.tolist() == [0, 32 - read]


def test_the_process_in_front_takes_turns_over_all_that_it_has() -> None:
    """A thousand at once enter together (vLLM's pull request 20065 says so of its server); Poisson arrivals stay as long in a queue
    that takes turns as in one of random work, whatever theirs is: work / (1 - load)."""
    plan = ALONE._replace(front_s=0.01)
    at_once = requests_of(np.zeros(1000), np.full(1000, 4), np.ones(1000))
    served(at_once, MIXED, memory_of(1e9), steps_of(), plan)
    assert at_once.admitted.min() == pytest.approx(10.0)
    requests = Traffic(requests=100_000, rate_per_s=60.0, prompt=1, output=1).sent()
    endless = MIXED._replace(max_sequences=1000, ahead=False)
    served(requests, endless, memory_of(1e9), steps_of(1e-9, 0.0), plan)
    assert (requests.admitted - requests.arrival).mean() == pytest.approx(0.01 / (1.0 - 0.6), rel=0.03)


def test_a_request_that_no_empty_memory_holds_is_named() -> None:
    requests = requests_of(np.zeros(2), np.array([8, 100]), np.array([2, 2]))
    assert served(requests, MIXED, memory_of(50.0), steps_of())[-1] == 1


def test_the_newest_or_the_shortest_makes_room() -> None:
    """vLLM puts the newest request back, SGLang the one that has generated least."""
    for name, again in (("vllm", 2), ("sglang", 2)):
        rules = SCHEDULERS[name]._replace(reserve=0.0)
        requests: Requests = requests_of(np.array([0.0, 0.0, 0.01]), np.full(3, 8), np.full(3, 40))
        served(requests, rules, memory_of(100.0), steps_of())
        assert requests.preempted[again] > 0 and not requests.preempted[0]


@given(tokens=st.integers(0, 10_000), block=st.integers(1, 64))
def test_memory_grows_in_whole_blocks(tokens: int, block: int) -> None:
    memory = Memory(1e9, block, 2.0, 3.0, 512.0, 7.0)
    rounded = -(-tokens // block) * block
    assert sequence_bytes(memory, tokens) == (2.0 * rounded + 3.0 * min(rounded, 512) + 7.0 if tokens else 0.0)


@settings(max_examples=60)
@given(
    name=st.sampled_from(sorted(SCHEDULERS)),
    seed=st.integers(0, 1000),
    room=st.integers(120, 2000),
    places=st.integers(1, 8),
    rate_per_s=st.floats(1.0, 200.0),
)
def test_many_steps_at_once_are_the_steps_one_by_one(
    name: str, seed: int, room: int, places: int, rate_per_s: float
) -> None:
    fates = []
    for chunk_s in (0.0, 1e-300):  # a process in front, however fast, is asked after every step
        requests = Traffic(
            requests=60, rate_per_s=rate_per_s, prompt="uniform:1,50", output="uniform:1,60", seed=seed
        ).sent()
        rules = SCHEDULERS[name]._replace(max_sequences=places, ahead=bool(seed % 2))
        _, gaps, fleet, _ = served(requests, rules, memory_of(float(room)), steps_of(), ALONE._replace(chunk_s=chunk_s))
        fates.append((requests, gaps, fleet.sums))
    (one, gaps, sums), (other, other_gaps, other_sums) = fates
    for column in ("first", "last", "admitted", "preempted"):
        assert getattr(one, column) == pytest.approx(getattr(other, column), rel=1e-9)
    assert (gaps == other_gaps).all()
    assert sums[:, [STEPS, BUSY_S, RUNNING_S, FULL_S, FULL_TOKENS]] == pytest.approx(
        other_sums[:, [STEPS, BUSY_S, RUNNING_S, FULL_S, FULL_TOKENS]], rel=1e-9
    )
