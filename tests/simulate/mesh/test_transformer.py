"""A whole transformer on the mesh: every layer and token against NumPy, the KV cache, placement, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hyp

from waferline.errors import DoesNotFitError, InvalidInputError, UnknownNameError, UnsupportedError
from waferline.machines.mesh import load_parameters
from waferline.machines.mesh_costs import attention as costs
from waferline.machines.mesh_costs import transformer as fitted
from waferline.simulate.mesh.transformer import simulate_decode, simulate_kv, simulate_prefill
from waferline.simulate.mesh.transformer.forward import MeshLlama
from waferline.simulate.mesh.transformer.kv import KvRows, capacity
from waferline.simulate.mesh.transformer.model import random_llama, reference_logits
from waferline.workloads.load import load_model

WSE2 = load_parameters("wse2-waferllm")
TOKENS = np.random.default_rng(3).integers(0, 40, 15)


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (6, 4), (3, 5)])
@pytest.mark.parametrize(("number_format", "tolerance"), [("fp32", 2e-5), ("fp16", 2e-2)])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_logits_of_prefill_and_decode_are_the_references(grid, number_format, tolerance, kv_heads):
    model = random_llama(costs.Widths(40, 4, kv_heads, 8, 72), layers=3, vocabulary=40, seed=kv_heads)
    reference = reference_logits(model, TOKENS)
    mesh = MeshLlama(model, *grid, number_format)
    assert np.abs(mesh.prefill(TOKENS[:9]) - reference[:9]).max() < tolerance
    for position in range(9, 15):
        assert np.abs(mesh.decode(int(TOKENS[position])) - reference[position]).max() < tolerance
    assert len(mesh.caches[2]) == 15
    counts = mesh.caches[2].counts
    assert max(counts) - min(counts) <= 1


def test_the_mask_is_causal():
    model = random_llama(costs.Widths(40, 4, 2, 8, 72), layers=2, vocabulary=40)
    changed = TOKENS[:8].copy()
    changed[-1] = (changed[-1] + 1) % 40
    a, b = (MeshLlama(model, 4, 4).prefill(tokens) for tokens in (TOKENS[:8], changed))
    assert np.array_equal(a[:-1], b[:-1])
    assert not np.allclose(a[-1], b[-1])


@given(rows=hyp.integers(1, 9), arrivals=hyp.integers(0, 60))
def test_shift_keeps_rows_level_and_order(rows, arrivals):
    cache: KvRows[int] = KvRows(rows, 100)
    for token in range(arrivals):
        cache.append(token)
        assert max(cache.counts) - min(cache.counts) <= 1
    assert cache.entries() == list(range(arrivals))


@settings(max_examples=30)
@given(rows=hyp.integers(1, 40), row_capacity=hyp.integers(1, 12))
def test_shift_holds_as_many_times_more_tokens_as_there_are_rows(rows, row_capacity):
    """WaferLLM Table 5: 360x and 385x with 360 and 375 rows."""
    assert capacity(rows, row_capacity, "concat") == row_capacity
    assert capacity(rows, row_capacity, "shift") == rows * row_capacity


def test_kv_of_llama_3_8b_by_both_policies():
    model = load_model("llama-3-8b")
    shift = simulate_kv(WSE2, model, 360, 360, policy="shift")
    concat = simulate_kv(WSE2, model, 360, 360, policy="concat")
    assert shift["tokens"] / concat["tokens"] == pytest.approx(360, rel=0.03)
    assert shift["in_order"] and "row 359" in concat["first_refusal"]
    with pytest.raises(UnknownNameError, match="shift"):
        simulate_kv(WSE2, model, 360, 360, policy="shft")


def test_decode_is_ten_all_reduces_a_layer_and_mostly_communication():
    result = simulate_decode(WSE2, load_model("llama-3-8b"), 660, 660)
    assert result.accuracy.passes
    assert result.details["layers"] == 32
    assert result.cycles == pytest.approx(32 * result.details["layer_cycles"])
    assert result.communication_cycles > 0.8 * result.cycles
    assert result.used_bytes <= WSE2.sram_bytes
    assert sum(row["cycles"] for row in result.trace) == pytest.approx(result.details["layer_cycles"])


def test_prefill_is_mostly_computing_and_more_tokens_cost_more():
    model = load_model("llama-3-8b")
    short = simulate_prefill(WSE2, model, 660, 660, context=2048, data=False)
    long = simulate_prefill(WSE2, model, 660, 660, context=4096, data=False)
    assert short.compute_cycles > 0.5 * short.cycles
    assert short.cycles < long.cycles < 4 * short.cycles


@pytest.mark.parametrize("grid", [420, 540, 660])
def test_released_mode_counts_one_layer_times_the_layers(grid):
    model = load_model("llama-3-8b")
    result = simulate_decode(WSE2, model, grid, grid, released=True)
    shape = fitted.LayerShape.released(4096, 14336)
    layer = fitted.decode_layer(shape, grid, fitted.RELEASED_GROUPS[grid], 4096, parameters=WSE2)
    assert result.cycles == pytest.approx(32 * float(layer.total))


@pytest.mark.parametrize(("grid", "rate"), [(420, 2700), (540, 2501), (660, 2243)])
def test_released_mode_is_near_waferllm_table_4(grid, rate):
    """Llama-3-8B, the calibration rows of the fit; tokens/s per request at 1.1 GHz."""
    result = simulate_decode(WSE2, load_model("llama-3-8b"), grid, grid, released=True)
    assert result.details["tokens_per_s"] == pytest.approx(rate, rel=0.03)


def test_columns_are_shared_out_to_the_heads():
    assert costs.group_columns(660, 8) == (66, 1)
    assert costs.group_columns(360, 32) == (10, 1)
    assert costs.group_columns(3, 8) == (1, 3)


def test_relayout_is_free_onto_the_same_grid_but_for_the_way():
    same = costs.relayout_cycles(WSE2, 1e9, 360, 360, 360, 360)
    smaller = costs.relayout_cycles(WSE2, 1e9, 660, 660, 360, 360)
    assert same < 1000 < smaller
    assert costs.relayout_cycles(WSE2, 2e9, 660, 660, 360, 360) > 1.9 * smaller


@pytest.mark.parametrize(
    ("model", "grid", "options", "error", "text"),
    [
        ("llama-3-70b", (660, 660), {}, DoesNotFitError, "weights"),
        ("llama-3-8b", (660, 660), {"context": 400_000}, DoesNotFitError, "KV cache"),
        ("llama-3-8b", (800, 800), {}, InvalidInputError, "750x994"),
        ("llama-3-8b", (660, 660), {"context": 0}, InvalidInputError, "context"),
        ("llama-3-8b", (600, 660), {"released": True}, UnsupportedError, "square"),
        ("mixtral-8x7b", (660, 660), {}, UnsupportedError, "Llama-style"),
        ("llama-3-8b", (660, 660), {"reduction": "ktree:9"}, DoesNotFitError, "colours"),
    ],
)
def test_refusals(model, grid, options, error, text):
    with pytest.raises(error, match=text):
        simulate_decode(WSE2, load_model(model), *grid, data=False, **options)
