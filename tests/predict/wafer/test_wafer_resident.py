"""Weights resident in SRAM: placement, the search for grids, limits of a core, and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import DoesNotFitError, InvalidInputError, UnsupportedError
from waferline.machines.hardware import load_hardware
from waferline.machines.mesh_costs.fitted import balanced_groups, best_stages, tree_stages
from waferline.predict.wafer.autotune import tune
from waferline.predict.wafer.resident import WaferResidentModel

RESIDENT = WaferResidentModel()


def test_auto_grids_are_the_fastest_that_fit(models, cs2):
    auto = RESIDENT.solve(models["llama-3-8b"], cs2, 2048)
    for phase, time in (("decode_grid", "itl_s"), ("prefill_grid", "prefill_s")):
        every = RESIDENT.solve(models["llama-3-8b"], cs2, 2048, systems=1, **{phase: np.arange(32, 751)})
        assert np.nanmin(every[time]) == auto[time]
        assert every[phase][np.nanargmin(every[time])] == auto[phase]


def test_wafers_needed_grow_with_the_model_and_shrink_with_the_format(models, cs3):
    small, large = (RESIDENT.solve(models[m], cs3, 2048)["systems"] for m in ("llama-3-8b", "llama-3-70b"))
    narrow = RESIDENT.solve(models["llama-3-70b"], cs3, 2048, precision="int8")["systems"]
    assert small == 1 and narrow < large
    assert large >= np.ceil(141e9 / 44e9)  # never fewer than the SRAM of the systems must hold


def test_more_wafers_never_slow_a_request(models, cs3):
    rate = [RESIDENT.solve(models["llama-3-70b"], cs3, 2048, systems=n)["user_tokens_per_s"] for n in (7, 10, 20)]
    assert np.diff(rate).min() > -1e-3 * rate[0]  # hand-offs between wafers may cost a little


def test_a_pipeline_never_serves_less_than_one_request(models, cs3):
    result = RESIDENT.solve(models["llama-3-8b"], cs3, [256, 2048, 8192])
    assert (result["throughput_tokens_per_s"] >= result["user_tokens_per_s"] * (1 - 1e-12)).all()
    assert (result["in_flight_batches"] <= result["regions"]).all()


def test_shift_caches_as_many_times_more_as_there_are_rows(models, cs2):
    result = RESIDENT.solve(models["llama-3-8b"], cs2, 2048, prefill_grid=660, decode_grid=360)
    assert result["kv_capacity_tokens"] == 360 * result["kv_capacity_concat_tokens"]


@settings(max_examples=25, deadline=None)
@given(length=st.integers(16, 16384), more=st.integers(1, 4096), batch=st.integers(1, 4), grid=st.integers(340, 750))
def test_laws(length, more, batch, grid):
    from conftest import MODELS

    cs2, model = load_hardware("cs2"), MODELS["llama-2-13b"]
    solved = RESIDENT.solve(
        model, cs2, [length, length + more], batch, prefill_grid=grid, decode_grid=grid, counting="released-code"
    )
    assert (solved["light_itl_s"] <= solved["itl_low_s"]).all()
    for name in ("itl", "ttft"):
        assert (solved[f"{name}_low_s"] <= solved[f"{name}_s"]).all()
        assert (solved[f"{name}_s"] <= solved[f"{name}_high_s"]).all()
    assert solved["itl_s"][1] >= solved["itl_s"][0] and solved["prefill_s"][1] >= solved["prefill_s"][0]
    single = RESIDENT.solve(
        model, cs2, length + more, batch, prefill_grid=grid, decode_grid=grid, counting="released-code"
    )
    assert single["itl_s"] == solved["itl_s"][1] and single["ttft_s"] == solved["ttft_s"][1]


def test_the_best_group_is_near_the_root_of_the_side():
    sides = np.arange(64, 751)
    every = np.arange(1, 751)
    stages = tree_stages(sides[:, None], every)
    best = np.where(every <= sides[:, None], stages, np.inf)
    assert (best.min(axis=1) == tree_stages(sides, balanced_groups(sides))).all()
    assert (np.abs(balanced_groups(sides) - np.sqrt(sides)) <= 1).all()


def test_deeper_trees_have_fewer_stages_and_the_tree_beats_a_chain_at_720(wse2):
    chain, two, three = (float(best_stages(720, k)) for k in (1, 2, 3))
    assert chain > two > three
    cost = {k: 720 * wse2.hop_cycles + wse2.stage_cycles * s for k, s in (("chain", chain), ("two", two))}
    assert 4 <= cost["chain"] / cost["two"] <= 8


def test_the_autotuner_finds_what_every_side_and_depth_gives(models, cs2):
    best = tune(models["llama-3-8b"], cs2, 4096, phase="decode", systems=1)
    every = [
        RESIDENT.solve(models["llama-3-8b"], cs2, 4096, prefill_grid=683, decode_grid=np.arange(200, 751), levels=k)
        for k in (1, 2, 3)
    ]
    assert best["time_s"] == min(np.nanmin(r["itl_s"]) for r in every)
    assert best["colours"] <= 24 and best["core_bytes"] <= 49152 and best["grid"] <= 750


def test_throughput_and_latency_want_different_grids(models, cs2):
    fast, busy = (tune(models["llama-3-8b"], cs2, 2048, objective=o) for o in ("latency", "throughput"))
    assert busy["throughput_tokens_per_s"] > fast["throughput_tokens_per_s"]
    assert busy["time_s"] > fast["time_s"] and busy["grid"] < fast["grid"]


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_tuning_many_lengths_is_tuning_each(models, cs2, phase):
    lengths, batches = np.array([[256], [4096]]), np.array([1, 4, 8])
    many = tune(models["llama-3-8b"], cs2, lengths, batches, phase=phase, systems=2)
    assert many.shape == (2, 3)
    for i, length in enumerate(lengths.ravel()):
        for j, batch in enumerate(batches):
            one = tune(models["llama-3-8b"], cs2, length, batch, phase=phase, systems=2)
            for name in one.values:
                assert np.array_equal(many[name][i, j], one[name], equal_nan=True), name


def test_colours_bind_the_tree(models, cs2, wse2):
    tight = tune(models["llama-3-8b"], cs2, 2048, parameters=wse2.with_values(colours=6))
    assert tight["levels"] == 1 and tight["colours"] <= 6
    with pytest.raises(DoesNotFitError, match="6 colours"):
        tune(models["llama-3-8b"], cs2, 2048, parameters=wse2.with_values(colours=5))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"decode_grid": 900}, InvalidInputError, "900x900 is larger than the usable 755x1170"),
        ({"decode_grid": 100, "prefill_grid": 600}, DoesNotFitError, "a core needs .* has 43,008 B"),
        ({"systems": 1}, DoesNotFitError, "wafers, 1 given"),
        ({"groups": 5000, "decode_grid": 300}, InvalidInputError, "5000 groups"),
        ({"levels": 4}, InvalidInputError, "levels"),
        ({"prefill_grid": "big"}, InvalidInputError, "auto"),
        ({"counting": "fingers"}, InvalidInputError, "released-code"),
    ],
)
def test_bad_input_names_the_limit(models, cs3, arguments, error, text):
    with pytest.raises(error, match=text) as caught:
        RESIDENT.solve(models["llama-3-70b"], cs3, 2048, **arguments)
    assert caught.value.exit_code == (3 if error is DoesNotFitError else 2)


def test_a_gpu_is_not_a_wafer(models):
    with pytest.raises(UnsupportedError, match="not a mesh"):
        RESIDENT.solve(models["llama-3-8b"], "h100", 2048)


def test_mixture_of_experts_computes_what_is_routed_and_stores_all(moe, cs3):
    result = RESIDENT.solve(moe, cs3, 1024)
    dense = result["light_itl_s"] * result["systems"] * cs3.bandwidth_bytes_per_s
    stored = 24 * 32 * 3 * 2880 * 2880 * 2
    head = 2880 * 201088 * 2  # read once a token, too
    assert dense - head < stored / 4
    assert result["systems"] * 44e9 > stored


@pytest.mark.parametrize("strategy", ["wafer-resident", "weight-streaming"])
def test_the_command_line_request_is_answered(models, cs3, strategy):
    from waferline.predict.scenario import Scenario
    from waferline.predict.wafer import predict_resident, predict_streaming

    solve = {"wafer-resident": predict_resident, "weight-streaming": predict_streaming}[strategy]
    result = solve(
        models["llama-3-8b"], cs3, Scenario(model=None, machine=None, batch=2, prompt=512, output=64, devices="1")
    )
    assert result["tpot_s"] > 0 and result["request_s"] == pytest.approx(result["ttft_s"] + 64 * result["tpot_s"])
    assert {row.phase for row in result.operators} == {"prefill", "decode"}
    for phase, key in (("prefill", "ttft_s"), ("decode", "tpot_s")):
        rows = sum(float(row.time_s) for row in result.operators if row.phase == phase)
        assert rows == pytest.approx(float(result[key]), rel=0.05)


def test_a_wafer_layer_is_the_operators_that_every_machine_runs(models, cs2):
    """Law 3: the rows of an answer are the lowered operators, and with what is beside them they are the whole time."""
    from waferline.formats import resolve
    from waferline.workloads.lower import lower_decode

    result = RESIDENT.solve(models["llama-3-8b"], cs2, 4096, decode_grid=360, prefill_grid=660)
    lowered = lower_decode(models["llama-3-8b"], batch=1, context=4096, precision=resolve("fp16", cs2.arithmetic))
    timed = {"gemm", "decode_attention", "norm", "softmax"}
    rows = {row.name: row for row in result.operators if row.phase == "decode"}
    for op in lowered:
        if op.kind in timed:
            assert rows[op.name].count == op.count and rows[op.name].flops == op.count * op.flops
            assert 0 <= rows[op.name].light_s <= rows[op.name].time_s
    assert sum(float(r.time_s) for r in rows.values()) == pytest.approx(float(result["itl_s"]), rel=1e-9)


def test_ten_all_reduces_a_layer(models):
    from waferline.predict.wafer.case import make_case
    from waferline.predict.wafer.price import reductions

    case = make_case(models["llama-3-8b"], "cs2", "fp16")
    assert reductions(case.stack(4096, 1, prefill=False)[0].operators) == 10


def test_the_hint_names_a_grid_that_fits(models, cs2):
    """360² and 480² hold Llama-3-8B on one wafer, 420² does not."""
    for side in (420, 600):
        with pytest.raises(DoesNotFitError) as caught:
            RESIDENT.solve(models["llama-3-8b"], cs2, 4096, decode_grid=side, systems=1)
        near = int(caught.value.hint.partition("x")[0])
        assert RESIDENT.solve(models["llama-3-8b"], cs2, 4096, decode_grid=near, systems=1)["feasible"]


@pytest.mark.parametrize(
    "option",
    [{"tp": 4}, {"pp": 2}, {"dp": 2}, {"ep": 4}, {"engine": "nope"}, {"load": "full"}, {"profile": "/no/such"}],
)
@pytest.mark.parametrize("strategy", ["wafer-resident", "weight-streaming"])
def test_options_that_a_wafer_does_not_read_are_refused(models, cs3, option, strategy):
    from waferline.predict.run import run
    from waferline.predict.scenario import Scenario

    with pytest.raises(InvalidInputError, match=f"{next(iter(option))} would not be read"):
        run(Scenario(model=models["llama-3-8b"], machine=cs3, strategy=strategy, **option))


@pytest.mark.parametrize("grid", ["360x480", "x", "0", "9" * 5000, "²"])
def test_a_grid_that_is_no_square_is_refused(models, cs3, grid):
    from waferline.predict.run import run
    from waferline.predict.scenario import Scenario

    with pytest.raises(InvalidInputError, match="--grid"):
        run(Scenario(model=models["llama-3-8b"], machine=cs3, grid=grid))


@pytest.mark.parametrize("wafer", ["cs2", "cs3"])
@pytest.mark.parametrize("name", ["llama-3-8b", "gpt-oss-120b", "gemma-2-9b", "falcon-7b", "opt-350m", "llama-4-scout"])
def test_no_operator_and_no_phase_is_faster_than_light_and_the_rows_are_the_whole(name, wafer):
    for batch, length in ((1, 16), (8, 4096), (64, 8192)):
        result = RESIDENT.solve(name, wafer, length, batch, output_len=64)
        for row in result.operators:
            assert not row.light_s > row.time_s, row.name
        for phase, key in (("prefill", "ttft"), ("decode", "itl")):
            rows = sum(float(row.time_s) for row in result.operators if row.phase == phase)
            assert rows == pytest.approx(float(result[f"{key}_s"]), rel=1e-9)
            assert result[f"light_{key}_s"] <= result[f"{key}_low_s"] <= result[f"{key}_s"]


def test_a_grid_that_takes_two_wafers_is_answered_with_one_that_takes_one(models, cs2):
    from waferline.predict.run import run
    from waferline.predict.scenario import Scenario

    for side in ("420x420", "600x600"):
        result = run(Scenario(model=models["llama-3-8b"], machine=cs2, prompt=4096, output=1, grid=side)).result
        near = result.notes[0].rpartition("; ")[2].partition(" ")[0]
        assert (
            run(Scenario(model=models["llama-3-8b"], machine=cs2, prompt=4096, output=1, grid=near)).result["systems"]
            == 1
        )
