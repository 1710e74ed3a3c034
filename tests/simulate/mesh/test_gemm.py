"""Distributed GEMM: right numbers, the two fidelities together, the published shapes, clear refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hyp

from waferline.errors import DoesNotFitError, InvalidInputError, UnknownNameError, UnsupportedError
from waferline.machines.mesh import load_parameters
from waferline.machines.mesh_costs import gemm as costs
from waferline.simulate.mesh.gemm import simulate_gemm
from waferline.simulate.mesh.gemm.blocks import block_schedule, ring_plan
from waferline.simulate.mesh.gemm.data import multiply_on_mesh, random_operands
from waferline.simulate.mesh.gemm.events import run_ring_gemm
from waferline.simulate.mesh.operators import matrix_product

WSE2 = load_parameters("wse2-waferllm")
ALGORITHMS = ("meshgemm", "cannon", "summa", "allgather")
EVERY = (*ALGORITHMS, "gemm-t")


@settings(deadline=None, max_examples=40)
@given(
    m=hyp.integers(1, 40),
    k=hyp.integers(1, 40),
    n=hyp.integers(1, 40),
    width=hyp.integers(1, 9),
    height=hyp.integers(1, 9),
    algorithm=hyp.sampled_from(ALGORITHMS),
)
def test_any_shape_on_any_mesh_is_the_product(m, k, n, width, height, algorithm):
    a, b = random_operands(m, k, n, "int8", seed=m)
    assert np.array_equal(multiply_on_mesh(a, b, width, height, algorithm=algorithm, number_format="int8"), a @ b)


@pytest.mark.parametrize("algorithm", EVERY)
@pytest.mark.parametrize(
    ("number_format", "accumulator"), [("fp16", "fp32"), ("fp16", "fp16"), ("fp32", "fp32"), ("int8", "fp32")]
)
def test_both_fidelities_compute_within_the_stated_tolerance(algorithm, number_format, accumulator):
    for fidelity in ("closed", "event"):
        result = simulate_gemm(matrix_product(30, 22, 27, number_format), WSE2, 5, 5, algorithm=algorithm,
                               accumulator=accumulator, fidelity=fidelity)  # fmt: skip
        assert result.accuracy is not None and result.accuracy.passes
        if number_format == "int8":
            assert result.accuracy.max_abs_error == 0
        if accumulator == "fp16" and number_format == "fp16":
            assert result.accuracy.max_abs_error > 1e-5  # sums really are kept in halves


@settings(deadline=None, max_examples=30)
@given(
    side=hyp.integers(1, 10),
    tile=hyp.tuples(*[hyp.integers(1, 6)] * 3),
    algorithm=hyp.sampled_from(EVERY),
    set_name=hyp.sampled_from(["hpdc24", "sdk-sim-wse3", "wse2-waferllm"]),
)
def test_event_and_closed_form_agree_within_three_percent(side, tile, algorithm, set_name):
    p = load_parameters(set_name)
    event = simulate_gemm(
        matrix_product(*(side * size for size in tile)), p, side, side, algorithm=algorithm, fidelity="event"
    )
    assert event.cycles == pytest.approx(event.closed_form_cycles, rel=0.03)
    assert event.accuracy.passes


@pytest.mark.parametrize("algorithm", EVERY)
def test_word_hops_counted_from_streams_are_those_of_the_routers(algorithm):
    event = simulate_gemm(matrix_product(36, 36, 36), WSE2, 6, 6, algorithm=algorithm, fidelity="event")
    closed = simulate_gemm(matrix_product(36, 36, 36), WSE2, 6, 6, algorithm=algorithm, fidelity="closed")
    assert event.hop_words == closed.hop_words


def test_both_operands_meet_on_every_core_at_every_step():
    for a, b in block_schedule("meshgemm", 12, 8):
        assert np.array_equal(a, b)
    plan = ring_plan("meshgemm", 9, 9)
    expected = [y // 2 + y % 2 for y in range(9)]  # WaferLLM: row y turns by ceil(y / 2)
    assert list(np.abs(plan.rotation())) == expected


SIDES = np.array([90, 180, 360, 720])


def step_communication(algorithm: str) -> np.ndarray:
    """Per step, with the same 8 x 8 tiles at every side (weak scaling)."""
    size = 8 * SIDES
    return costs.gemm_cycles(WSE2, size, size, size, SIDES, SIDES, algorithm=algorithm).step_communication


def test_meshgemm_steps_do_not_grow_with_the_mesh_and_the_others_do():
    """WaferLLM section 5: O(alpha) against O(alpha N)."""
    assert np.ptp(step_communication("meshgemm")) == 0
    for algorithm, slope in (("cannon", 1.0), ("summa", 0.75)):
        growth = np.diff(step_communication(algorithm)) / np.diff(SIDES)
        assert growth == pytest.approx(np.full(3, slope * WSE2.hop_cycles), rel=0.01)


def test_summa_overlaps_nothing_and_meshgemm_hides_the_shorter_part():
    summa = costs.gemm_cycles(WSE2, 2048, 2048, 2048, 64, 64, algorithm="summa")
    mesh = costs.gemm_cycles(WSE2, 2048, 2048, 2048, 64, 64)
    assert summa.step == summa.step_compute + summa.step_communication + WSE2.step_cycles
    assert mesh.step == max(mesh.step_compute, mesh.step_communication) + WSE2.step_cycles
    assert summa.overlap == pytest.approx(0, abs=1e-6)
    assert mesh.overlap == pytest.approx(64 * min(mesh.step_compute, mesh.step_communication))


def test_2k_gemm_from_360_to_720_helps_only_meshgemm():
    """WaferLLM figure 9: flat or falling for MeshGEMM, rising communication for SUMMA and Cannon."""
    sides = np.array([360, 720])
    by = {
        a: costs.gemm_cycles(WSE2, 2048, 2048, 2048, sides, sides, algorithm=a) for a in ("meshgemm", "cannon", "summa")
    }
    for algorithm in ("cannon", "summa"):
        assert by[algorithm].communication[1] > 2 * by[algorithm].communication[0]
        assert np.all(by[algorithm].total > by["meshgemm"].total)


def test_the_wrap_of_cannon_is_paid_once_without_a_barrier_per_step():
    """Our own observation: per-step latency grows with N, but streams of later steps follow the first round the wrap."""
    a, b = random_operands(32, 32, 32, "fp16")
    p = load_parameters("hpdc24")
    lockstep = run_ring_gemm(p, a, b, 16, algorithm="cannon")[1].cycles
    product, free = run_ring_gemm(p, a, b, 16, algorithm="cannon", lockstep=False)
    assert free.cycles < 0.7 * lockstep
    assert np.abs(product - a.astype(float) @ b).max() < 1e-5


def test_closed_form_takes_arrays_and_equals_its_scalars():
    sides = np.array([30, 60, 120])
    many = costs.gemm_cycles(WSE2, 960, 960, np.array([[960], [1920]]), sides, sides)
    assert many.total.shape == (2, 3)
    assert many.total[1, 2] == costs.gemm_cycles(WSE2, 960, 960, 1920, 120, 120).total


# SDK fabric simulator, WSE-3 target, MeshGEMM with the inner product left out (L = 0): (P, Mt, cycles); Kt = Nt = 8.
# junesookang/WaferLLM (commit b8f87d0), MeshGEMM/WSE-3-col-major/col-major-gemm.json
SDK_ROWS = [
    (3, 1, 523.978), (3, 2, 530.422), (3, 4, 557.133), (3, 8, 619.867), (3, 9, 641.4), (3, 12, 707.711), (3, 16, 813.578),
    (6, 1, 1032.761), (6, 2, 1050.983), (6, 4, 1108.644), (6, 8, 1262.8), (6, 9, 1320.9), (6, 12, 1467.717),
    (6, 16, 1723.061), (9, 1, 1465.2), (9, 2, 1499.37), (9, 4, 1580.491), (9, 8, 1798.232), (9, 9, 1877.368),
    (9, 12, 2084.136), (9, 16, 2452.205),
]  # fmt: skip


def test_sdk_simulator_communication_only_set_within_three_percent():
    p = load_parameters("sdk-sim-wse3").with_values(map_base_cycles=0.0, map_vector_cycles=0.0)
    side, mt, cycles = np.array(SDK_ROWS).T
    side, mt = side.astype(int), mt.astype(int)
    ours = costs.gemm_cycles(p, side * mt, side * 8, side * 8, side, side).total
    error = np.abs(ours / cycles - 1)
    assert error.mean() < 0.03
    assert error.max() < 0.05


def test_the_form_of_the_step_predicts_a_mesh_it_was_not_fitted_on():
    """The same four constants, fitted on P = 3 and 6 only, tell P = 9."""
    side, mt, cycles = np.array(SDK_ROWS).T
    half = side // 2
    columns = np.stack([np.ones_like(side), side, half, half * 4 * mt], axis=1)
    rest = cycles - side * np.maximum(4 * mt, 32)  # what the link words leave
    seen = side < 9
    fit = np.linalg.lstsq(columns[seen] / cycles[seen, None], rest[seen] / cycles[seen], rcond=None)[0]
    ours = columns @ fit + side * np.maximum(4 * mt, 32)
    assert np.mean(np.abs(ours[~seen] / cycles[~seen] - 1)) < 0.03


@pytest.mark.parametrize(
    ("sizes", "grid", "options", "error", "text"),
    [
        ((8, 8, 8), (800, 8), {}, InvalidInputError, "750x994"),
        ((0, 8, 8), (8, 8), {}, InvalidInputError, "positive"),
        ((8, 8, 8), (4, 4), {"algorithm": "strassen"}, UnknownNameError, "strassen"),
        ((8, 8, 8), (4, 4), {"number_format": "fp8"}, UnknownNameError, "fp8"),
        ((20000, 20000, 20000), (16, 16), {}, DoesNotFitError, "core SRAM"),
        ((4096, 4096, 4096), (64, 64), {"algorithm": "allgather"}, DoesNotFitError, "core SRAM"),
        ((8, 8, 8), (4, 2), {"fidelity": "event"}, UnsupportedError, "square"),
        ((2000, 2000, 2000), (200, 200), {"fidelity": "event"}, UnsupportedError, "too many"),
    ],
)
def test_refusals_name_the_limit(sizes, grid, options, error, text):
    number_format = options.pop("number_format", "fp16")
    with pytest.raises(error, match=text):
        simulate_gemm(matrix_product(*sizes, number_format), WSE2, *grid, data=False, **options)


def test_too_many_colours_is_a_refusal():
    with pytest.raises(DoesNotFitError, match="needs 9 colours"):
        simulate_gemm(matrix_product(16, 16, 16), WSE2.with_values(colours=8), 4, 4)


def test_compliance_says_which_limit_breaks_and_where():
    cube = matrix_product(64, 64, 64)
    mesh = simulate_gemm(cube, WSE2, 16, 16, data=False).compliance
    cannon = simulate_gemm(cube, WSE2, 16, 16, algorithm="cannon", data=False).compliance
    gather = simulate_gemm(cube, WSE2, 16, 16, algorithm="allgather", data=False).compliance
    assert mesh.passes
    assert not cannon.latency.passes and "wrap" in cannon.latency.where
    assert gather.routing.value == 30 and not gather.routing.passes


def test_the_result_is_data():
    import json

    result = simulate_gemm(matrix_product(24, 24, 24), WSE2, 6, 6, fidelity="event")
    text = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert text["how"] == "simulated" and text["max_abs_error"] <= text["tolerance"]
    assert text["seconds"] == pytest.approx(text["cycles"] / 1.1e9)
    assert text["energy_j"] == pytest.approx(15000 * text["seconds"])
    assert len(result.trace) == 6
    assert result.heat.sum() == result.hop_words
    assert 0 < result.link_utilisation < 1
