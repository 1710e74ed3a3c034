"""Several replicas: nothing is lost whatever fails, starts or moves; prefixes are found, and dropped when room ends."""

from __future__ import annotations

import signal
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.traffic.test_loop import ALONE, MIXED, SCHEDULERS, memory_of, served, steps_of

from waferline.simulate.serving.replica_step import SAMPLE_COLUMNS
from waferline.simulate.serving.state import PROMPT_TOKENS, ROUTERS, UP_S, Plan, requests_of
from waferline.simulate.serving.traffic import Tenant, Traffic
from waferline.traffic.server import Server


def _plan(**changes: Any) -> Plan:
    lists = {"fail_at": float, "fail_replica": np.int64, "fail_for": float}
    return ALONE._replace(**{k: np.array(v, dtype=lists[k]) if k in lists else v for k, v in changes.items()})


@settings(max_examples=150)
@given(
    name=st.sampled_from(sorted(SCHEDULERS)),
    router=st.integers(0, len(ROUTERS) - 1),
    replicas=st.integers(1, 4),
    prefill=st.integers(0, 2),
    stages=st.integers(1, 3),
    turns=st.integers(1, 5),
    shared=st.integers(0, 12),
    classes=st.integers(1, 3),
    rate=st.none() | st.floats(1.0, 400.0),
    room=st.integers(260, 700),
    fail=st.none() | st.tuples(st.floats(0.0, 0.3), st.integers(0, 3), st.floats(0.0, 0.2)),
    scaled=st.booleans(),
    front=st.sampled_from([0.0, 1e-3]),
    seed=st.integers(0, 5),
)
@example(  # on its way to a replica that the autoscaler stops meanwhile: it went on for ever
    name="sglang", router=2, replicas=2, prefill=0, stages=2, turns=5, shared=10, classes=1, rate=None, room=442,
    fail=(0.05145528150640968, 1, 0.004881700565020842), scaled=True, front=1e-3, seed=3,
)  # fmt: skip
@example(  # two stages put each other's requests back for ever
    name="vllm", router=3, replicas=1, prefill=0, stages=3, turns=4, shared=0, classes=1, rate=None, room=260,
    fail=None, scaled=False, front=1e-3, seed=0,
)  # fmt: skip
def test_nothing_is_lost_whatever_happens_to_replicas(
    name: str, router: int, replicas: int, prefill: int, stages: int, turns: int, shared: int, classes: int, rate: float | None,
    room: int, fail: tuple[float, int, float] | None, scaled: bool, front: float, seed: int,
) -> None:  # fmt: skip
    traffic = Traffic(
        requests=40, rate_per_s=rate, prompt="uniform:13,40", output="uniform:1,12", turns=turns, shared=shared, seed=seed,
        think_s="exponential:0.01" if turns > 1 else "0", tenants=tuple(Tenant(name=str(i), priority=i) for i in range(classes)),
    )  # fmt: skip
    requests = traffic.sent()
    prefill = 0 if scaled else min(prefill, replicas - 1)
    changes: dict[str, Any] = {
        "router": router,
        "prefill": prefill,
        "link_s_per_byte": 1e-5,
        "front_s": front,
        "chunk_s": front / 10,
    }
    if scaled:
        changes |= {"least": 1, "target": 4.0, "start_s": 0.02, "interval_s": 0.01, "patience_s": 0.05}
    if fail is not None:
        changes |= {"fail_at": [fail[0]], "fail_replica": [fail[1] % replicas], "fail_for": [fail[2]]}
    rules = SCHEDULERS[name]._replace(stages=stages, max_tokens=512 if not SCHEDULERS[name].chunked else 64)
    samples, gaps, fleet, stuck = served(
        requests, rules, memory_of(float(room)), steps_of(), _plan(**changes), replicas
    )
    assert stuck == -1
    assert (requests.made == requests.output).all() and not requests.held.any() and not requests.pinned.any()
    assert fleet.free == pytest.approx(np.full(replicas, room)) and not fleet.active.any() and not fleet.waiting.any()
    assert (fleet.cached >= -1e-6).all() and (fleet.cached <= room + 1e-6).all()
    assert (requests.first >= requests.arrival).all() and (requests.last >= requests.first).all()
    if fail is None:
        assert gaps.sum() == (requests.output - 1).sum()
    columns = dict(zip(SAMPLE_COLUMNS, samples.T, strict=True))
    assert (columns["memory_share"] <= 1.0 + 1e-9).all() and (columns["memory_share"] >= -1e-9).all()
    assert (requests.hits < requests.prompt).all()


def test_a_conversation_finds_its_own_history_and_forgets_it_when_room_ends() -> None:
    """Blocks of the turns before, answers included (their last token is never computed), are not read again."""
    traffic = Traffic(requests=4, turns=4, prompt=20, output=9, think_s=1.0)
    requests = traffic.sent()
    assert requests.prompt.tolist() == [20, 49, 78, 107]
    served(requests, MIXED, memory_of(1000.0), steps_of())
    assert requests.hits.tolist() == [0, 28, 56, 84]  # whole blocks of four of the 28, 57 and 86 that were computed
    small = traffic.sent()
    small = small._replace(arrival=np.array([0.0, 1.0, 1.0, 1.0]))
    other = requests_of(np.array([0.5, 2.6]), np.full(2, 110), np.full(2, 1))
    both = [np.concatenate([a, b]) for a, b in zip(small, other, strict=True)]
    mixed = type(small)(*both)._replace(
        node_from=np.concatenate([small.node_from, [small.node_from[-1]] * 2]),
        node=small.node,
        node_tokens=small.node_tokens,
    )
    served(mixed, MIXED, memory_of(116.0), steps_of())
    assert mixed.hits[1] < 28  # what came in between needed the room
    assert (mixed.made == mixed.output).all()


def test_the_prefix_router_brings_a_conversation_home() -> None:
    traffic = Traffic(requests=400, turns=4, prompt=40, output=8, rate_per_s=50.0, think_s=0.05)
    read = {}
    for router in ROUTERS:
        requests = traffic.sent()
        _, _, fleet, _ = served(requests, MIXED, memory_of(1e5), steps_of(), _plan(router=ROUTERS.index(router)), 4)
        read[router] = fleet.sums[:, PROMPT_TOKENS].sum()
    assert read["prefix"] == read["session"] < 0.6 * read["round-robin"]


def test_least_loaded_waits_less_than_in_turn() -> None:
    waits = {}
    for router in ("round-robin", "least-loaded"):
        requests = Traffic(requests=20_000, rate_per_s=40.0, prompt=1, output="exponential:80").sent()
        plan = _plan(router=ROUTERS.index(router))
        served(requests, MIXED._replace(max_sequences=1), memory_of(1e9), steps_of(prompt_token_s=0.0), plan, 4)
        waits[router] = (requests.admitted - requests.arrival).mean()
    assert waits["least-loaded"] < 0.6 * waits["round-robin"]


def test_a_moved_cache_takes_its_time_and_is_not_read_again() -> None:
    requests = requests_of(np.zeros(1), np.array([32]), np.array([3]))
    plan = _plan(prefill=1, link_s_per_byte=0.01, link_latency_s=0.5)
    _, _, fleet, _ = served(requests, MIXED, memory_of(100.0), steps_of(), plan, 2)
    prefill, decode = 1e-3 + 32e-5, 1e-3
    assert requests.first[0] == pytest.approx(prefill)
    assert requests.last[0] == pytest.approx(prefill + 0.5 + 32 * 0.01 + 2 * decode)
    assert fleet.sums[:, PROMPT_TOKENS].tolist() == [32, 0]


def test_a_failed_replica_s_requests_are_served_by_others() -> None:
    requests = requests_of(np.zeros(2), np.full(2, 8), np.full(2, 100))
    plan = _plan(fail_at=[0.05], fail_replica=[0], fail_for=[np.inf])
    _, _, fleet, stuck = served(requests, MIXED, memory_of(1e3), steps_of(), plan, 2)
    assert stuck == -1 and requests.home.tolist() == [1, 1]
    assert requests.last[0] == pytest.approx(0.15, rel=0.05)  # it began again
    assert fleet.sums[0, UP_S] == pytest.approx(0.05)
    alone = requests_of(np.zeros(1), np.full(1, 8), np.full(1, 100))
    assert served(alone, MIXED, memory_of(1e3), steps_of(), plan)[-1] == 0  # nobody is left


def test_a_fleet_grows_with_its_work_and_shrinks_again() -> None:
    requests = Traffic(requests=3000, rate_per_s=100.0, prompt=8, output=50).sent()
    requests = requests._replace(arrival=np.concatenate([requests.arrival[:2000], requests.arrival[2000:] + 60.0]))
    plan = _plan(least=1, target=4.0, start_s=0.5, interval_s=0.1, patience_s=1.0)
    samples, _, fleet, _ = served(requests, MIXED._replace(max_sequences=4), memory_of(1e4), steps_of(), plan, 4)
    up = dict(zip(SAMPLE_COLUMNS, samples.T, strict=True))["replicas"]
    assert up[0] == 1 and 2 <= up.max() <= 4
    assert fleet.sums[:, UP_S].sum() < 0.6 * 4 * requests.last.max()


def test_a_start_is_called_off_before_one_that_is_up_stops() -> None:
    requests = requests_of(np.array([0.0] * 8 + [5.0]), np.full(9, 8), np.full(9, 50))
    plan = _plan(least=1, target=4.0, start_s=100.0, interval_s=0.1, patience_s=1.0)
    _, _, fleet, stuck = served(requests, MIXED, memory_of(1e4), steps_of(), plan, 2)
    assert stuck == -1
    assert requests.last[-1] - requests.arrival[-1] < 0.1  # 50 steps of a millisecond: nobody waited for a start
    assert 1.0 <= fleet.sums[1, UP_S] < 2.0  # its start was paid for until then


def test_a_loop_ends_where_nobody_waits_for_it() -> None:
    """Ctrl-C in a notebook: the compiled loop, which no signal reaches, went on to the end of its requests."""
    sent = Traffic(requests=4_000_000, rate_per_s=1e4, prompt=8, output=50).sent()
    rules, memory, steps, plan = MIXED, memory_of(1e4), steps_of(), _plan(stop=np.zeros(1, np.int64))
    served(requests_of(np.zeros(1), np.full(1, 8), np.full(1, 5)), rules, memory, steps)  # compiled by now
    main, before = threading.main_thread(), set(threading.enumerate())
    assert main.ident is not None and main is threading.current_thread()
    shells = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
    threading.Timer(0.5, signal.pthread_kill, (main.ident, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        Server(None, rules, memory, steps, None).run(sent, 1, plan)  # type: ignore[arg-type]
    signal.signal(signal.SIGINT, shells)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=20.0)
        assert not thread.is_alive()
    assert (sent.last >= 0.0).sum() < sent.last.size


@pytest.mark.parametrize("rest", [{"fail_at": [1e12], "fail_replica": [1], "fail_for": [1e12]}, {}])
def test_looks_of_a_scaled_fleet_end_whatever_passes_between_requests(rest: dict[str, Any]) -> None:
    requests = requests_of(np.array([0.0, 1e9, 1e12, 2e13]), np.full(4, 8), np.full(4, 50))
    plan = _plan(least=1, target=0.01, start_s=0.5, interval_s=1e-3, patience_s=1.0, **rest)
    _, _, fleet, stuck = served(requests, MIXED, memory_of(1e3), steps_of(), plan, 2)
    assert stuck == -1 and (requests.made == 50).all()
    assert 2.0 < fleet.sums[1, UP_S] < 10.0  # the second came for each of them, and went again


def test_states_alone_take_no_room_for_what_a_conversation_adds() -> None:
    requests = Traffic(requests=6, turns=3, prompt=20, output=9).sent()
    served(requests, MIXED, memory_of(50.0)._replace(full=0.0, state=5.0), steps_of())
    assert (requests.made == requests.output).all()


def test_stages_overlap_steps_of_different_requests() -> None:
    """Two stages serve two batches at once: the same work in about half the time, each token as late as before."""
    ends = {}
    for stages in (1, 2):
        requests = Traffic(requests=200, prompt=1, output=50).sent()
        served(
            requests,
            MIXED._replace(max_sequences=8, max_tokens=4, stages=stages),
            memory_of(1e6),
            steps_of(prompt_token_s=0.0),
        )
        ends[stages] = requests.last.max()
    assert ends[2] == pytest.approx(0.5 * ends[1], rel=0.1)


def test_the_important_go_first() -> None:
    requests = requests_of(np.zeros(20), np.full(20, 8), np.full(20, 5), priority=np.arange(20) % 2)
    served(requests, MIXED._replace(max_sequences=2), memory_of(1e3), steps_of())
    assert requests.first[::2].max() < requests.first[1::2].min()
