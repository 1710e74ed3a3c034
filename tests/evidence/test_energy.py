"""`evidence check` reads rows of energy: each predicted or refused with a reason. Values are ML.ENERGY v3's (vLLM 0.11.1)."""

import json

from waferline.cli import run

HEADER = (
    "id,run_id,source,kind,machine,devices,model,precision,engine,phase,batch,concurrency,prompt,output,tp,ep,dp,"
    "metric,value,unit,scope,notes,suspect\n"
)
RUN = "ML.ENERGY Benchmark v3,measured,nvidia-h100-sxm-80gb,1,{model},bf16,vllm,serve steady state,31.9404,32,,646.842,1,1,1"
ROWS = (
    f"a,r,{RUN.format(model='qwen3-8b')},power_w,478.079,W,all GPUs,,\n"
    f"b,r,{RUN.format(model='qwen3-8b')},energy_j_per_output_token,0.163282,J,all GPUs,,\n"
    f"c,r,{RUN.format(model='qwen3-8b')},power_w,900,W,node (IPMI),,\n"
    f"d,r,{RUN.format(model='no-such-model-7b')},power_w,478.079,W,all GPUs,,\n"
    f"e,r,{RUN.format(model='qwen3-8b')},songs_per_j,3,1/J,all GPUs,,\n"
)
IMAGES = "ML.ENERGY Benchmark v3,measured,nvidia-h100-sxm-80gb,{devices},{model},bf16,xdit,generate,1,,,,,,"
ON_IMAGES = "".join(
    f'{model}-{devices}-{metric},,{IMAGES.format(model=model, devices=devices)},{metric},{value},,all GPUs,"{notes}",\n'
    for model, devices, notes, figures in (
        ("flux.1-dev", 1, "1024x1024, 50 steps; ulysses 1 ring 1", (11.6392, 682.915, 7948.59)),
        ("flux.1-dev", 4, "1024x1024, 50 steps; ulysses 4 ring 1", (4.64725, 2070.16, 9620.55)),
        (
            "wan2.1-t2v-14b-diffusers",
            1,
            "832x480, 50 steps, 81 frames at 15 fps; ulysses 1 ring 1",
            (466.765, 619.698, 289253),
        ),
    )
    for metric, value in zip(("latency_s", "power_w", "energy_j_per_image"), figures, strict=True)
)


def test_every_row_is_answered_or_refused(tmp_path, capsys):
    file = tmp_path / "energy.csv"
    file.write_text(HEADER + ROWS)
    assert run(["evidence", "check", str(file), "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert len(rows) == 5
    assert abs(rows["a"]["predicted"] / 478.079 - 1) < 0.2 and rows["a"]["low90"] < 478.079 < rows["a"]["high90"]
    assert abs(rows["b"]["predicted"] / 0.163282 - 1) < 0.25 and rows["b"]["low90"] < 0.163282 < rows["b"]["high90"]
    for name, why in (("c", "more than the devices"), ("d", "not in the catalogue"), ("e", "songs_per_j")):
        assert rows[name]["predicted"] is None and why in rows[name]["refused"]


def test_images_of_a_diffusion_model_are_answered(tmp_path, capsys):
    """Its rows are shared by the devices of a run; half of the values lie within 20 %, all within the interval."""
    file = tmp_path / "energy.csv"
    file.write_text(HEADER + ON_IMAGES)
    assert run(["evidence", "check", str(file), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 9 and all(row["low90"] < row["value"] < row["high90"] for row in rows)
    assert sorted(abs(row["predicted"] / row["value"] - 1) for row in rows)[4] < 0.2


IN_TURN = "thesis,measured,nvidia-a100-sxm-40gb,{devices},falcon-40b,bf16,{engine},generate,32,,8,32,,,"


def _predicted(tmp_path, capsys, rows: str) -> dict[str, float]:
    file = tmp_path / "energy.csv"
    file.write_text(HEADER + rows)
    assert run(["evidence", "check", str(file), "--json"]) == 0
    return {row["id"]: row["predicted"] for row in json.loads(capsys.readouterr().out)["rows"]}


def test_devices_that_work_in_turn_are_one_at_work_and_others_that_idle(tmp_path, capsys):
    """Transformers places whole layers: a third device shortens nothing and draws what a waiting one does; vLLM's cut heads."""
    rows = "".join(
        f"{engine}-{n}-{metric},,{IN_TURN.format(devices=n, engine=engine)},{metric},1,,GPU,,\n"
        for engine, n in (("transformers", 3), ("transformers", 4), ("vllm", 4))
        for metric in ("latency_s", "power_w")
    )
    found = _predicted(tmp_path, capsys, rows)
    assert found["transformers-3-latency_s"] == found["transformers-4-latency_s"] > found["vllm-4-latency_s"]
    one_more = found["transformers-4-power_w"] - found["transformers-3-power_w"]
    assert 20 < one_more < 80 and found["transformers-4-power_w"] < found["vllm-4-power_w"]


def test_the_peak_is_the_prompts_and_a_rate_needs_no_power_limit(tmp_path, capsys):
    run_of = "S,measured,{machine},{devices},{model},{fmt},{engine},generate,1,,512,128,{devices},,"
    big = run_of.format(machine="nvidia-a100-80gb", devices=8, model="bloom-176b", fmt="fp16", engine="vllm")
    small = run_of.format(machine="apple-m1-pro", devices=1, model="llama-3.2-1b", fmt="fp16", engine="mlx")
    metrics = (
        ("power_peak_fraction_of_tdp", big), ("power_mean_fraction_of_tdp", big), ("tpot_s", small),
        ("decode_tokens_per_s", small), ("power_w", small),
    )  # fmt: skip
    found = _predicted(tmp_path, capsys, "".join(f"{metric},,{case},{metric},1,,GPU,,\n" for metric, case in metrics))
    assert 1 > found["power_peak_fraction_of_tdp"] > found["power_mean_fraction_of_tdp"] > 0
    assert abs(found["decode_tokens_per_s"] * found["tpot_s"] - 1) < 1e-9 and found["power_w"] is None
