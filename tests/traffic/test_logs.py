"""Logs of servers and load generators are read as traces; a gap to a log is said to come from where it was made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import waferline as wl
from waferline.cli import run
from waferline.errors import FileFormatError
from waferline.simulate.serving.trace import read_trace
from waferline.traffic.calibrate import calibrate

BENCH = {"input_lens": [10, 20, 5], "output_lens": [3, 2, 0], "ttfts": [0.1, 0.2, 0.0], "itls": [[0.01, 0.02], [0.03], []],
         "start_times": [5.0, 4.0, 6.0]}  # fmt: skip
GUIDELLM = {"benchmarks": [{"requests": {"successful": [
    {"prompt_tokens": 10, "output_tokens": 3,
     "scheduler_info": {"request_timings": {"request_start": 5.0, "first_iteration": 5.1, "request_end": 5.13}}},
    {"prompt_tokens": 20, "output_tokens": 2, "start_time": 4.0, "first_token_time": 4.2, "end_time": 4.23},
]}}]}  # fmt: skip


def _span(start_s: float, prompt: int, output: int, ttft: float, e2e: float) -> dict[str, object]:
    said = {
        "gen_ai.usage.prompt_tokens": {"intValue": str(prompt)},
        "gen_ai.usage.completion_tokens": {"intValue": str(output)},
        "gen_ai.latency.time_to_first_token": {"doubleValue": ttft},
        "gen_ai.latency.e2e": {"doubleValue": e2e},
    }
    return {
        "startTimeUnixNano": str(int(start_s * 1e9)),
        "attributes": [{"key": k, "value": v} for k, v in said.items()],
    }


SPANS = {"resourceSpans": [{"scopeSpans": [{"spans": [
    _span(5.0, 10, 3, 0.1, 0.13), _span(4.0, 20, 2, 0.2, 0.23), {"startTimeUnixNano": "1", "attributes": []}]}]}]}  # fmt: skip


@pytest.mark.parametrize(("name", "data"), [("bench.json", BENCH), ("guidellm.json", GUIDELLM), ("spans.jsonl", SPANS)])
@pytest.mark.parametrize("indent", [None, 1])
def test_logs_are_traces_with_latencies(tmp_path: Path, name: str, data: object, indent: int | None) -> None:
    file = tmp_path / name
    file.write_text(json.dumps(data, indent=None if name.endswith("jsonl") else indent))
    trace = read_trace(file)
    assert trace["arrival_s"].tolist() == [0.0, 1.0]
    assert trace["prompt_tokens"].tolist() == [20, 10] and trace["output_tokens"].tolist() == [2, 3]
    assert trace["ttft_s"] == pytest.approx([0.2, 0.1]) and trace["e2e_s"] == pytest.approx([0.23, 0.13])


@pytest.mark.parametrize("data", [{"input_lens": [1]}, {"benchmarks": []}, {"resourceSpans": [{}]}, {"benchmarks": 5}])
def test_a_log_that_lacks_parts_is_one_error_with_its_row(tmp_path: Path, data: object) -> None:
    file = tmp_path / "log.json"
    file.write_text(json.dumps(data))
    with pytest.raises(FileFormatError, match="row 1"):
        read_trace(file)


def test_a_gap_comes_from_where_it_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = wl.Scenario(model="llama-3-8b", machine="h100", precision="fp16")
    seen = wl.simulate_serving(asked, wl.Traffic(requests=400, rate_per_s=6.0, prompt="lognormal:800,cv=1")).per_request
    columns = ["arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s"]
    for late, name in ((0.0, "same.csv"), (0.05, "late.csv")):
        rows = np.stack([seen[c] + (late if c in ("ttft_s", "e2e_s") else 0.0) for c in columns], axis=1)
        np.savetxt(tmp_path / name, rows, delimiter=",", header=",".join(columns), comments="", fmt="%.9g")
    same = calibrate(asked, tmp_path / "same.csv")
    assert (
        same.before < 1e-3
        and same.prefill == pytest.approx(1.0, abs=0.01)
        and same.client_s == pytest.approx(0.0, abs=1e-3)
    )
    late = calibrate(asked, tmp_path / "late.csv")
    assert (
        late.client_s == pytest.approx(0.05, rel=0.05) and late.prefill == late.decode == 1.0
    )  # the one part that changed
    assert late.after < 0.6 * late.before and late.client_s > 0.01 and late.decode == pytest.approx(1.0, abs=0.1)
    line = ["simulate", "serving", "llama-3-8b", "--on", "h100", "--precision", "fp16", "--calibrate"]
    assert run([*line, str(tmp_path / "late.csv")]) == 0
    assert "What would close the gap" in capsys.readouterr().out
    (tmp_path / "bare.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,10,10\n")
    assert run([*line, str(tmp_path / "bare.csv")]) == 2
    assert "no latencies" in capsys.readouterr().err


def test_the_published_columns_of_burstgpt_are_read_and_a_bad_row_is_named(tmp_path: Path) -> None:
    head = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    rows = ["5,ChatGPT,472,18,490,Conversation log\n", "45,ChatGPT,1087,230,1317,Conversation log\n"]
    path = tmp_path / "burst.csv"
    path.write_text(head + "".join(rows) + "118,GPT-4,417,276,693,Conversation log\n")
    trace = read_trace(path)
    assert trace["arrival_s"].tolist() == [0.0, 40.0, 113.0]
    assert trace["prompt_tokens"].tolist() == [472, 1087, 417] and trace["output_tokens"].tolist() == [18, 230, 276]
    path.write_text(head + "".join(rows) + "118,GPT-4,many,276,693,Conversation log\n")
    with pytest.raises(FileFormatError, match="row 3"):
        read_trace(path)


# The first windows of a published client (ServeGen, data/language/m-large/chunk-100-trace.csv).
CLIENT = """0,1.1666666666666667,0.9812997595412902,Gamma,1.0384763614345214,0.8245559198741792
600,1.105,1.0234423521079221,Gamma,0.9547138658547358,0.9482064663813097
1200,0,0,,,
1800,0.64,1.0495706477216191,Weibull,1.0269980493187594,1.7057127973248827
"""
LENGTHS = {"0": {"input_tokens": "{100: 0.5, 300: 0.5}", "output_tokens": "{7: 1.0}"},
           "1200": {"input_tokens": "{5: 1e0}", "output_tokens": "{9: 1}"}}  # fmt: skip


def test_a_client_of_servegen_is_drawn_window_by_window(tmp_path: Path) -> None:
    """As many requests as its rates say, gaps as varied as its CVs, lengths of the newest window; without lengths it says so."""
    file = tmp_path / "chunk-100-trace.csv"
    file.write_text(CLIENT)
    with pytest.raises(FileFormatError, match="lengths of the client's requests are not beside"):
        read_trace(file)
    beside = tmp_path / "chunk-100-dataset.json"
    beside.write_text(json.dumps(LENGTHS))
    trace = read_trace(file)
    assert trace["arrival_s"].size == round(600 * (1.1666666666666667 + 1.105 + 0.64))
    early, late = trace["arrival_s"] < 1200, trace["arrival_s"] > 1700
    assert (early | late).all() and early.sum() == 1363 and (np.diff(trace["arrival_s"]) >= 0).all()
    gaps = np.diff(trace["arrival_s"][early])
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.1)
    assert set(trace["prompt_tokens"][early]) == {100, 300} and trace["prompt_tokens"][early].mean() == pytest.approx(
        200, rel=0.05
    )
    assert set(trace["prompt_tokens"][late]) == {5} and set(trace["output_tokens"][late]) == {9}
    for wrong, said in (("0,1,1,Pareto,1,1", "row 1"), ("0,1,1,Gamma,0,1", "row 1"),
                        ("600,1,1,Gamma,1,1\n0,1,1,Gamma,1,1", "row 2"),
                        ("0,1e99,1,Gamma,1,1", "more than"), ("0,0,0,,,", "sends nothing")):  # fmt: skip
        file.write_text(wrong)
        with pytest.raises(FileFormatError, match=said):
            read_trace(file)
    file.write_text(CLIENT)
    for data in (
        {"0": {"image_tokens": "{3: 1}"}},
        {"0": {"input_tokens": "{3: 1}"}},
        [],
        {"0": 5},
        {"0": {"input_tokens": "{}"}},
    ):
        beside.write_text(json.dumps(data))
        with pytest.raises(FileFormatError):
            read_trace(file)
