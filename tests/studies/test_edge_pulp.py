"""The PULP cycle model: counted instructions, products of a layer, fp16 that accumulates in fp16."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import InvalidInputError
from waferline.evidence.studies.cases.pulp_training import (
    Cluster,
    Instruction,
    Loop,
    Matmul,
    conv_steps,
    linear_steps,
    matmul_fp16,
    training_step,
)
from waferline.evidence.studies.facts import facts
from waferline.evidence.studies.registry import load_study, run_study
from waferline.workloads.load import load_model

GOLDEN = [  # instructions, stalls and MACs of an iteration: arXiv:2305.19167 and the kernels' source code
    ("naive", 3, 1, 1),
    ("unroll_2x1", 5, 0, 2),
    ("unroll_2x4", 14, 0, 8),
    ("simd_naive", 5, 0, 2),
    ("simd_transposed", 3, 1, 2),
    ("simd_4x8", 18, 0, 16),
    ("update", 4, 1, 1),
]


@pytest.mark.parametrize(("name", "instructions", "stalls", "macs"), GOLDEN)
def test_loops_count_instructions_and_stalls(name, instructions, stalls, macs):
    loop = Loop.from_facts(facts("pulp-fp16")["loops"][name])
    assert (len(loop.body), loop.stalls, loop.macs) == (instructions, stalls, macs)
    assert loop.cycles == instructions + stalls


def test_a_load_right_before_its_use_costs_a_cycle_and_one_further_away_does_not():
    near = Loop.from_facts({"body": ["b=ld", "a=ld", "c=mac a b c"], "macs": 1, "outputs": 1})
    far = Loop.from_facts({"body": ["a=ld", "b=ld", "d=add d d", "c=mac a b c"], "macs": 1, "outputs": 1})
    assert (near.stalls, far.stalls) == (1, 0)


def test_an_unknown_instruction_is_named():
    with pytest.raises(InvalidInputError, match="frobnicate"):
        Instruction.parse("a=frobnicate b")


CLUSTER = Cluster(cores=8, loop_cycles=14.0, outer_product_cycles=5.0, im2col_cycles=7.0, contention=0.9)
LOOP = Loop.from_facts({"body": ["a=ld", "b=ld", "c=mac a b c"], "macs": 1, "outputs": 1})


@given(n=st.integers(1, 64), k=st.integers(2, 64), m=st.integers(1, 64))
def test_no_cluster_is_faster_than_all_its_cores(n, k, m):
    one = CLUSTER.matmul(Matmul(n, k, m), LOOP)
    assert one >= n * k * m * LOOP.cycles
    assert one / 8 <= CLUSTER.shared(one, n) <= one / CLUSTER.contention * (1 + 1e-12)


@given(inputs=st.integers(2, 300), outputs=st.integers(2, 300))
def test_the_three_products_of_a_dense_layer_do_the_same_work(inputs, outputs):
    assert {p.macs for p in linear_steps(inputs, outputs).values()} == {inputs * outputs}


def test_a_training_step_does_at_most_three_forwards():
    model = load_model("resnet-8")
    macs, cycles = training_step(model.layers, LOOP, CLUSTER)
    forward = sum(layer.macs for layer in model.layers)
    assert 2 * forward < macs < 3.0 * forward
    assert cycles > macs * LOOP.cycles / 8
    assert all(conv_steps(layer)["FW"].macs == layer.macs for layer in model.layers)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 96))
def test_fp16_accumulation_stays_within_its_error_bound(seed, k):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((3, k)).astype(np.float16), rng.standard_normal((k, 4)).astype(np.float16)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    unit = 2.0**-11  # half a unit in the last place of fp16
    bound = (k / 2 + 2) * unit * size * 1.1 + 6e-8 * k  # Higham 2002, section 3.1; the last term for subnormals
    assert np.all(np.abs(matmul_fp16(a, b) - exact) <= bound)


def test_the_study_reproduces_all_but_the_widest_unrolling():
    report = run_study(load_study("pulp-fp16"))
    assert [c.quantity for c in report.misses] == ["pointwise conv forward, 2x4 loop, 1 core"]
    blind = [c for c in report.checks if c.verdict == "compared with data" and not c.fitted]
    assert len(blind) >= 14
