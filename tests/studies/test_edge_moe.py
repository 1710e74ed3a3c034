"""Edge-MoE: its four algorithms against plain references, and its image through the product."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, softmax

from waferline.evidence.studies.cases.edge_moe_algorithms import (
    Experts,
    GeluTable,
    expert_by_expert,
    fixed_point,
    gelu,
    online_softmax,
    row_loads,
    row_steps,
    token_by_token,
    visits,
)
from waferline.evidence.studies.registry import load_study, run_study


@given(tokens=st.integers(1, 40), slots=st.integers(1, 9))
def test_every_query_meets_every_key_once(tokens, slots):
    if slots >= tokens and slots > 1:
        return  # the engine needs fewer slots than tokens
    pairs = list(visits(tokens, slots))
    assert len(pairs) == len(set(pairs)) == tokens * tokens


@pytest.mark.parametrize(("tokens", "slots"), [(128, 4), (64, 8), (12, 3), (16, 1)])
def test_streaming_reads_as_many_rows_as_published(tokens, slots):
    assert row_loads(tokens, slots) == tokens**2 // slots + tokens + slots - 1
    assert row_steps(tokens, slots) == tokens**2 // slots + slots - 1


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), n=st.integers(1, 60), scale=st.floats(0.01, 200))
def test_one_pass_softmax_is_softmax(seed, n, scale):
    x = scale * np.random.default_rng(seed).standard_normal((3, n))
    np.testing.assert_allclose(online_softmax(x), softmax(x, axis=1), atol=1e-13)


def test_fixed_point_only_truncates():
    q = fixed_point(4)
    assert q(np.array([0.99, -0.01, 2.0])).tolist() == [0.9375, -0.0625, 2.0]


def test_gelu_is_that_of_scipy_and_the_table_stays_within_its_bound():
    x = np.linspace(-9, 9, 20_001)
    np.testing.assert_allclose(gelu(x), x * 0.5 * (1 + erf(x / np.sqrt(2))), atol=1e-15)
    table = GeluTable.build(2.0**-5, 177)
    assert 0 < np.abs(table(x) - gelu(x)).max() <= table.error_bound < 1.1e-4
    assert np.abs(table(table.step * np.arange(177)) - gelu(table.step * np.arange(177))).max() < 1e-15


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), tokens=st.integers(1, 20), chosen=st.integers(1, 4))
def test_queues_give_the_token_order_result(seed, tokens, chosen):
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((5, 6, 8)), rng.standard_normal((5, 8, 6))
    layer = Experts(rng.standard_normal((6, 5)), first, second, gelu)
    x = rng.standard_normal((tokens, 6))
    (queued, reads), (plain, plain_reads) = expert_by_expert(layer, x, chosen), token_by_token(layer, x, chosen)
    np.testing.assert_allclose(queued, plain, atol=1e-12)
    assert reads <= min(5, plain_reads) and plain_reads == tokens * chosen


def test_the_study_holds_its_latency_and_says_what_it_misses():
    report = run_study(load_study("edge-moe"))
    assert {c.quantity for c in report.misses} == {"dense layers, blocks, experts"}  # 0.41 of it, 0.35 in print
    assert all(c.why for c in report.misses)
    latency = next(c for c in report.checks if c.quantity == "latency of an image")
    assert latency.computed != latency.published == 34.64e-3
