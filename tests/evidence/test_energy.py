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
