"""Distributed GEMV: right numbers in every format and reduction, block-quantised weights, batches, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hyp

from waferline.errors import DoesNotFitError, UnknownNameError
from waferline.machines.mesh import load_parameters
from waferline.machines.mesh_costs import gemv as costs
from waferline.simulate.mesh.gemv import simulate_allreduce, simulate_gemv
from waferline.simulate.mesh.gemv.data import reduce_in_order
from waferline.simulate.mesh.operators import all_reduce, matrix_product
from waferline.simulate.mesh.weights import weight_format

WSE2 = load_parameters("wse2-waferllm")


@settings(deadline=None, max_examples=25)
@given(
    m=hyp.integers(1, 300),
    n=hyp.integers(1, 60),
    width=hyp.integers(1, 12),
    height=hyp.integers(1, 16),
    reduction=hyp.sampled_from(["chain", "ring", "ktree:1", "ktree:2", "ktree:3"]),
    batch=hyp.integers(1, 3),
)
def test_whole_numbers_are_exact_on_any_mesh(m, n, width, height, reduction, batch):
    result = simulate_gemv(matrix_product(batch, m, n, "int8"), WSE2, width, height, reduction=reduction)
    assert result.accuracy.max_abs_error == 0


@pytest.mark.parametrize("weights", ["fp16", "q4_k", "q4_0", "q8_0"])
@pytest.mark.parametrize("accumulator", ["fp32", "fp16"])
def test_products_stay_within_the_stated_tolerance(weights, accumulator):
    result = simulate_gemv(matrix_product(1, 2048, 60, weights=weights), WSE2, 6, 8, accumulator=accumulator)
    assert result.accuracy.passes
    assert result.details["weights"] == weights


def test_quantised_tiles_take_their_block_bytes():
    form = weight_format("q4_k")
    assert form.tile_bytes(256, 10) == 10 * 144  # 144 bytes a super-block of 256
    rows = form.rows_per_core(4096, 8)
    assert rows == 512
    small = simulate_gemv(matrix_product(1, 4096, 80, weights="q4_k"), WSE2, 8, 8, data=False)
    large = simulate_gemv(matrix_product(1, 4096, 80), WSE2, 8, 8, data=False)
    assert small.memory_bytes["weight tile"] == 10 * 2 * 144
    assert small.memory_bytes["weight tile"] < 0.3 * large.memory_bytes["weight tile"]
    assert small.compute_cycles > large.compute_cycles  # decoding costs


@pytest.mark.parametrize("reduction", ["chain", "ktree:2", "ktree:3", "ring"])
def test_event_and_closed_form_agree(reduction):
    result = simulate_gemv(matrix_product(1, 512, 96), WSE2, 8, 16, reduction=reduction, fidelity="event")
    assert result.cycles == pytest.approx(result.closed_form_cycles, rel=0.03)


def test_sums_are_taken_in_the_order_of_the_tree():
    parts = np.array([[1.0], [2048.0], [1.0], [1.0]], np.float32)
    # fp16 cannot hold 2049: the chain from the far end adds 1 + 1 first, then 2050, then 2051 -> 2052 (nearest even)
    assert reduce_in_order(parts, (), 0, "fp16")[0] == np.float16(np.float16(2050) + np.float16(1))
    # the other way round every single 1 is lost against 2048
    assert reduce_in_order(parts[::-1], (), 0, "fp16")[0] == np.float16(2048)


def test_a_batch_shares_the_weights():
    one = costs.gemv_cycles(WSE2, 4096, 4096, 128, 128, dequantize_cycles_per_weight=0.75)
    eight = costs.gemv_cycles(WSE2, 4096, 4096, 128, 128, batch=8, dequantize_cycles_per_weight=0.75)
    assert one.compute < eight.compute < 8 * one.compute
    assert one.communication < eight.communication < 8 * one.communication


def test_the_reduction_dominates_large_meshes_and_the_best_mesh_grows_with_the_matrix():
    """WaferLLM section 7.3: up to 90 % communication; the optimum moves up with size."""
    sides = np.arange(60, 751, 30)
    cycles = {n: costs.gemv_cycles(WSE2, n, n, sides, sides) for n in (2048, 8192, 32768)}
    best = [int(sides[np.argmin(cycles[n].total)]) for n in cycles]
    assert best == sorted(best) and best[0] < best[-1]
    share = cycles[2048].communication / cycles[2048].total
    assert share[-1] > 0.8


@pytest.mark.parametrize(("size", "published", "tolerance"), [(16384, 1320, 0.25), (32768, 2233, 0.25)])
def test_lone_gemv_is_near_waferllm_table_6(size, published, tolerance):
    """No fit: mechanism only (the fitted closed form is within 10 %)."""
    sides = np.arange(120, 751, 30)
    best = costs.gemv_cycles(WSE2, size, size, sides, sides).total.min()
    assert best == pytest.approx(published, rel=tolerance)


def test_refusals():
    with pytest.raises(DoesNotFitError, match="weight tile"):
        simulate_gemv(matrix_product(1, 16384, 16384), WSE2, 50, 50, data=False)
    with pytest.raises(DoesNotFitError, match="colours"):
        simulate_gemv(matrix_product(1, 64, 64), WSE2, 8, 8, reduction="ktree:12", data=False)
    with pytest.raises(UnknownNameError):
        simulate_gemv(matrix_product(1, 64, 64, weights="q4_z"), WSE2, 8, 8, data=False)


def test_allreduce_result_compares_both_fidelities():
    event = simulate_allreduce(all_reduce(16, 108), WSE2, 12, 9)
    closed = simulate_allreduce(all_reduce(16, 108), WSE2, 12, 9, fidelity="closed")
    assert event.cycles == pytest.approx(closed.cycles, rel=0.03)
    assert event.accuracy.passes
    assert not simulate_allreduce(
        all_reduce(4, 256), WSE2, 64, 4, reduction="chain", fidelity="closed"
    ).compliance.latency.passes
