"""A whole transformer on the mesh: every layer and token against NumPy, the KV cache, placement, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hyp

from waferline.errors import DoesNotFitError, InvalidInputError, UnknownNameError, UnsupportedError
from waferline.machines.mesh import load_parameters
from waferline.simulate.mesh.transformer import simulate_forward, simulate_kv
from waferline.simulate.mesh.transformer.forward import MeshLlama, group_columns
from waferline.simulate.mesh.transformer.kv import KvRows
from waferline.simulate.mesh.transformer.model import Widths, random_llama, reference_logits
from waferline.workloads.load import load_model

WSE2 = load_parameters("wse2-waferllm")
TOKENS = np.random.default_rng(3).integers(0, 40, 15)


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (6, 4), (3, 5)])
@pytest.mark.parametrize(("number_format", "tolerance"), [("fp32", 2e-5), ("fp16", 2e-2)])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_logits_of_prefill_and_decode_are_the_references(grid, number_format, tolerance, kv_heads):
    model = random_llama(Widths(40, 4, kv_heads, 8, 72), layers=3, vocabulary=40, seed=kv_heads)
    reference = reference_logits(model, TOKENS)
    mesh = MeshLlama(model, *grid, number_format)
    assert np.abs(mesh.prefill(TOKENS[:9]) - reference[:9]).max() < tolerance
    for position in range(9, 15):
        assert np.abs(mesh.decode(int(TOKENS[position])) - reference[position]).max() < tolerance
    assert len(mesh.caches[2]) == 15
    counts = mesh.caches[2].counts
    assert max(counts) - min(counts) <= 1


def test_the_mask_is_causal():
    model = random_llama(Widths(40, 4, 2, 8, 72), layers=2, vocabulary=40)
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


def capacity(rows: int, row_capacity: int, policy: str) -> int:
    """Tokens a cache takes before it refuses one: found by filling it."""
    cache: KvRows[None] = KvRows(rows, row_capacity, policy)
    try:
        while True:
            cache.append(None)
    except DoesNotFitError:
        return len(cache)


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


def test_columns_are_shared_out_to_the_heads():
    assert group_columns(660, 8) == (66, 1)
    assert group_columns(360, 32) == (10, 1)
    assert group_columns(3, 8) == (1, 3)


def test_levelling_the_rows_costs_next_to_nothing():
    """Beside the 9,000 cycles of a decode layer of Llama-3-8B on 360 x 360."""
    assert 0 < simulate_kv(WSE2, load_model("llama-3-8b"), 360, 360)["shift_cycles_per_token"] < 90


@pytest.mark.parametrize("model", ["llama-3-8b", "llama-2-13b", "gemma-2b"])
@pytest.mark.parametrize(("grid", "number_format"), [((4, 4), "fp32"), ((3, 5), "fp16")])
def test_a_small_model_of_the_same_heads_runs_as_numpy_says(model, grid, number_format):
    facts = simulate_forward(load_model(model), *grid, number_format=number_format)
    assert facts["how"] == "simulated" and facts["passes"]


@pytest.mark.parametrize(
    ("model", "grid", "error", "text"),
    [
        ("llama-3-70b", (660, 660), DoesNotFitError, "weights"),
        ("llama-3-8b", (800, 800), InvalidInputError, "750x994"),
        ("mixtral-8x7b", (660, 660), UnsupportedError, "Llama-style"),
    ],
)
def test_refusals(model, grid, error, text):
    with pytest.raises(error, match=text):
        simulate_kv(WSE2, load_model(model), *grid)


def test_a_cache_too_large_to_fill_is_refused_at_once():
    with pytest.raises(UnsupportedError, match="too many to cache one by one"):
        simulate_kv(WSE2.with_values(sram_bytes=2**30), load_model("llama-3-8b"), 360, 360)


@pytest.mark.parametrize("side", [300, 420, 500])
def test_the_hint_of_a_region_too_small_names_one_that_is_not(side):
    small = WSE2.with_values(sram_bytes=30_000)
    with pytest.raises(DoesNotFitError, match="cores hold it") as caught:
        simulate_kv(small, load_model("llama-3-8b"), side, side)
    fitting = int(caught.value.hint.partition("x")[0])
    assert simulate_kv(small, load_model("llama-3-8b"), fitting, fitting)["tokens"] > 0
