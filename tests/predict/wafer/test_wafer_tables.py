"""The published tables: which rows calibrate, which are held out, and how close the closed forms come to each."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.fit.wafer import design
from benchmarks.fit.wafer_rows import energy_ratio, table

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import UnsupportedError
from waferline.machines.mesh import load_parameters
from waferline.machines.mesh_costs.fitted import RELEASED_GROUPS, fits_of, price_list, tree_stages
from waferline.predict.wafer.autotune import best_gemv
from waferline.predict.wafer.case import make_case
from waferline.predict.wafer.kv import capacity_tokens
from waferline.predict.wafer.resident import WaferResidentModel

FIT = read_packaged("mesh_fits.yaml")["wse2-waferllm"]
LENGTH = np.asarray(4096.0)  # context of Tables 3 and 4
ONE = np.asarray(1.0)


@pytest.mark.parametrize("row", table("Table 4", system="cerebras-wse2"), ids=lambda r: f"{r.model}@{r.grids[0]}")
def test_table_4_decode_within_one_percent(row, models):
    side = row.grids[0]
    case = make_case(models[row.model], "cs2", "fp16", "released-code")
    at = case.decode(side, LENGTH, ONE, tree_stages(side, RELEASED_GROUPS[side]))
    assert 1 / at.time_s == pytest.approx(row.value, rel=0.01)


@pytest.mark.parametrize("row", table("Table 3", system="cerebras-wse2"), ids=lambda r: f"{r.model}@{r.grids[0]}")
def test_table_3_prefill_within_four_percent(row, models):
    case = make_case(models[row.model], "cs2", "fp16", "released-code")
    assert LENGTH / case.prefill(row.grids[0], LENGTH, ONE).time_s == pytest.approx(row.value, rel=0.035)


@pytest.mark.parametrize("row", table("Table 2"), ids=lambda r: f"{r.input_tokens}/{r.output_tokens}")
def test_table_2_end_to_end_within_ten_percent(row, models, cs2):
    result = WaferResidentModel().solve(
        models[row.model],
        cs2,
        row.input_tokens,
        output_len=row.output_tokens,
        prefill_grid=row.grids[0],
        decode_grid=row.grids[1],
        counting="released-code",
    )
    assert result["request_tokens_per_s"] == pytest.approx(row.value, rel=0.10)


@pytest.mark.parametrize("row", table("Table 6", system="cerebras-wse2"), ids=lambda r: r.model)
def test_table_6_gemv_within_ten_percent_on_its_best_grid(row, wse2):
    side = {"1-16k-x-16k-16k": 16384, "1-32k-x-32k-32k": 32768}[row.model]
    grid, cycles = best_gemv(side, side, wse2)
    assert cycles / wse2.clock_hz * 1e3 == pytest.approx(row.value, rel=0.10)
    assert grid <= 750


def test_the_best_grid_of_a_gemv_grows_with_the_matrix(wse2):
    sides = [best_gemv(n, n, wse2)[0] for n in (2048, 4096, 8192, 16384, 32768)]
    assert sides == sorted(sides) and sides[0] < sides[-1]


def test_decode_constants_are_what_their_calibration_rows_give(wse2):
    problem = design("wse2-waferllm", "decode")
    assert len(problem.rows) == 6 and {r.model for r in problem.rows} == {"llama-3-8b", "qwen2-72b"}
    stage, row_cycles, fixed = problem.fit()
    prices = price_list(wse2)
    assert stage == pytest.approx(wse2.stage_cycles, rel=0.01)
    assert row_cycles == pytest.approx(prices.row, rel=0.01)
    assert fixed == pytest.approx(prices.layer, abs=5)


def test_prefill_constants_are_what_their_calibration_rows_give():
    problem = design("wse2-waferllm", "prefill")
    wanted = [FIT["prefill"][k] for k in ("map_base_cycles", "map_element_cycles", "step_cycles")]
    assert len(problem.rows) == 6
    assert problem.fit() == pytest.approx(wanted, rel=0.01)


def test_a_decode_row_left_out_is_predicted_within_three_percent():
    assert np.abs(design("wse2-waferllm", "decode").left_out()).max() < 0.03


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_the_recorded_left_out_error_is_the_one_computed(phase):
    assert FIT[phase]["left_out_error"] == pytest.approx(
        np.abs(design("wse2-waferllm", phase).left_out()).max(), abs=0.0005
    )


def test_a_prefill_row_left_out_is_worse_than_the_fit_says():
    problem = design("wse2-waferllm", "prefill")
    left_out, fitted = np.abs(problem.left_out()).max(), np.abs(problem.rate_errors(problem.fit())).max()
    assert fitted < 0.035 < left_out < 0.10  # six rows and three constants: the page reports both


def notebook_layer(row, alternative=None):
    """Cycles of the notebook's layer, whose widths follow the grid's side."""
    from conftest import llama

    side = row.grids[0]
    case = make_case(llama("weak", 9 * side, 30 * side, 1, 1, 1, 1), "cs3", "fp16", "released-code")
    prices = price_list(case.parameters, alternative=alternative)
    at = case.decode(side, np.asarray(9.0 * side), ONE, tree_stages(side, side // 24), prices)
    return at.time_s * case.parameters.clock_hz


@pytest.mark.parametrize("row", table("notebook"), ids=lambda r: str(r.grids[0]))
def test_wse3_layers_of_the_notebook(row):
    assert notebook_layer(row) == pytest.approx(row.value, rel=0.001)


@pytest.mark.parametrize("row", table("notebook"), ids=lambda r: str(r.grids[0]))
def test_the_alternatives_fit_the_notebook_as_well_or_leave_its_timers_out(row):
    assert len(fits_of("wse3-notebook")["decode"]["alternatives"]) == 2
    assert notebook_layer(row, 0) == pytest.approx(row.value, rel=0.001)
    assert row.value - notebook_layer(row, 1) == pytest.approx(4360, abs=15)


def test_a_cohort_without_a_timed_layer_is_refused():
    with pytest.raises(UnsupportedError, match="no measured decode layer"):
        price_list(load_parameters("hpdc24"))


def test_table_5_capacity_ratio_is_the_number_of_rows():
    concat, shift = (row.value for row in table("Table 5"))
    ours = [capacity_tokens(9000, 1024, 1, 360, policy=p) for p in ("concat", "shift")]
    assert shift / concat == pytest.approx(ours[1] / ours[0], rel=0.03)


@pytest.mark.parametrize("name", ["Table 6", "Table 7", "Table 8"])
def test_energy_ratios_follow_from_power_and_times(name, wse2):
    checked = 0
    for ratio in table(name, metric="energy ratio"):
        same = [r for r in table(name) if r.model == ratio.model and r.unit != "x"]
        gpu = next(r for r in same if r.system == "nvidia-a100" and r.devices == ratio.devices)
        wafer = next(r for r in same if r.system == "cerebras-wse2")
        times = (gpu.value, wafer.value) if gpu.unit == "ms" else (1 / gpu.value, 1 / wafer.value)
        ours = energy_ratio(ratio.devices, *times, wafer_w=wse2.power_w)
        # Two per cent, or half of the last printed digit where that is wider (0.05 is printed for 0.053).
        assert ours == pytest.approx(ratio.value, rel=0.02, abs=0.005), ratio.id
        checked += 1
    assert checked >= 3
