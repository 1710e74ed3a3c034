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
