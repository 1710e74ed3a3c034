"""The comparison with other tools, without any of them: selection of rows, arithmetic, and the protocol of adaptors."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.peers import peer as peers
from benchmarks.peers import score
from benchmarks.peers.peer import ADAPTORS, PEERS, Peer
from benchmarks.peers.question import questions, structure
from benchmarks.peers.runner import ask, put
from benchmarks.peers.speed import question
from benchmarks.scenarios import CONFIGURATIONS, Configuration
from docs.pages.peers import page

from waferline.evidence.check import check
from waferline.evidence.names import model_spec
from waferline.evidence.outcome import Outcome
from waferline.evidence.rows import Row

SAMPLE = json.loads((Path(__file__).parent / "peers_sample.json").read_text(encoding="utf-8"))
ROWS = [Row(**r) for r in SAMPLE["rows"]]
STATIC = next(r for r in ROWS if r.engine == "TensorRT-LLM" and r.metric == "output_tokens_per_s")

sys.path.insert(0, str(ADAPTORS))
import answering  # noqa: E402


def answers(name: str) -> dict[str, dict]:
    return {a["id"]: a for a in SAMPLE["answers"][name]["replies"]}


def test_every_sampled_row_is_a_question_in_plain_data() -> None:
    asked = questions(ROWS)
    assert [q.row.id for q in asked] == [r.id for r in ROWS]
    for q in asked:
        assert json.loads(json.dumps(q.data)) == q.data
        assert q.data["devices"] == q.data["tp"] * q.data["pp"] * q.data["dp"]
        assert q.data["batch"] == q.row.batch and q.data["load"] == "static"


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"phase": "serve", "metric": "tpot_s", "value": 0.02}, True),
        ({"phase": "serve", "metric": "tpot_s", "value": 0.02, "kind": "claimed"}, False),
        ({"phase": "serve", "batch": None, "notes": "max load"}, False),  # the batch is not stated
        ({"input_tokens": None, "output_tokens": None}, False),
        ({"model": "no-such-model"}, False),
        ({"hardware": "no-such-machine"}, False),
        ({"phase": "train", "metric": "mfu", "value": 0.4}, False),
    ],
)
def test_rows_that_are_asked(change: dict, asked: bool) -> None:
    assert bool(questions([replace(STATIC, **change)])) is asked


def test_what_a_question_needs_and_says() -> None:
    served = replace(STATIC, phase="serve", metric="tpot_s", notes="gemm=fp8 moe=- mode=agg", kv_format="")
    (q,) = questions([served])
    assert q.data["needs"] == ["itl_s"] and q.data["load"] == "closed"
    assert (q.data["gemm"], q.data["moe"], q.data["kv_stated"]) == ("fp8", None, False)
    (q,) = questions([replace(STATIC, engine="vLLM (nightly)")])
    assert q.data["engine"] == "vllm" and q.data["needs"] == ["ttft_s", "itl_s"]


def test_structures() -> None:
    llama = structure(model_spec("llama-3-8b"))
    assert llama is not None
    assert (llama["layers"], llama["hidden"], llama["kv_heads"], llama["experts"]) == (32, 4096, 8, 1)
    assert llama["parameters"] == llama["active_parameters"] == 8_030_261_248
    mixtral = structure(model_spec("mixtral-8x7b"))
    assert mixtral is not None
    assert (mixtral["experts"], mixtral["experts_per_token"]) == (8, 2)
    assert mixtral["active_parameters"] < mixtral["parameters"] / 3
    assert structure(model_spec("deepseek-v3")) is None and structure(model_spec("bert-base")) is None


@pytest.mark.parametrize(
    ("metric", "phase", "expected"),
    [
        ("output_tokens_per_s", "generate", 8 * 50 / (1 + 49 * 0.02)),
        ("total_tokens_per_s", "generate", 8 * 150 / (1 + 49 * 0.02)),
        ("latency_s", "generate", 1 + 49 * 0.02),
        ("prompt_tokens_per_s", "prefill", 8 * 100 / 1.0),
        ("output_tokens_per_s", "decode", 8 / 0.02),
        ("tpot_s", "decode", 0.02),
    ],
)
def test_times_become_the_metric_of_the_row(metric: str, phase: str, expected: float) -> None:
    row = replace(STATIC, metric=metric, phase=phase, batch=8.0, input_tokens=100.0, output_tokens=50.0)
    (q,) = questions([row])
    assert score.value_of(q, {"ttft_s": 1.0, "itl_s": 0.02}) == pytest.approx(expected)


def test_errors_by_hand() -> None:
    rates = [Outcome(replace(STATIC, value=100.0), predicted=p) for p in (50.0, 100.0, 200.0)]
    e = score.errors(rates)
    assert (e["rows"], e["median_error"], e["bias"]) == (3, 0.5, 0.0)
    assert e["p90_error"] == pytest.approx(np.quantile([0.5, 0.0, 1.0], 0.9))
    fast = [Outcome(replace(STATIC, value=100.0), predicted=200.0)] * 3
    e = score.errors(fast)  # all twice too fast: half the time, and nothing is left without that factor
    assert e["bias"] == pytest.approx(-0.5) and e["median_error_unbiased"] == pytest.approx(0.0)
    assert score.errors([])["median_error"] is None


@pytest.mark.parametrize("name", [p.name for p in PEERS])
def test_the_sample_scores_as_counted_by_hand(name: str) -> None:
    asked, ours = questions(ROWS), check(ROWS).outcomes
    theirs = score.outcomes(asked, answers(name), ours)
    told = score.side_by_side(theirs, ours)
    given = [a for a in answers(name).values() if "refused" not in a]
    assert told["answered"] == len(given) and told["asked"] == len(ROWS)
    assert told["answered"] + sum(told["refused"].values()) == len(ROWS)
    pairs = [(t, o) for t, o in zip(theirs, ours, strict=True) if t.predicted is not None and not o.suspect]
    assert told["same_rows"]["peer"]["rows"] == told["same_rows"]["waferline"]["rows"] == len(pairs)
    assert told["same_rows"]["peer"]["median_error"] == pytest.approx(
        np.median([abs(t.predicted / t.row.value - 1) for t, _ in pairs])
    )
    assert sum(k["asked"] for k in score.by_kind(theirs, ours).values()) == len(ROWS)


def test_rows_that_are_doubted_or_unanswered_are_not_scored() -> None:
    doubted = replace(STATIC, suspect="a typing error")
    asked, ours = questions([doubted, STATIC]), check([doubted, STATIC]).outcomes
    one = {STATIC.id: {"id": STATIC.id, "ttft_s": 0.1, "itl_s": 0.01}}
    assert score.side_by_side(score.outcomes(asked, one, ours), ours)["same_rows"]["peer"]["rows"] == 1
    none = score.side_by_side(score.outcomes(asked, {}, ours), ours)
    assert none["answered"] == 0 and none["refused"] == {"no answer": 2}


def test_an_adaptor_refuses_what_is_no_time() -> None:
    def infinite(q: answering.Question) -> answering.Times:
        return answering.Times(ttft_s=math.inf, itl_s=0.1)

    def broken(q: answering.Question) -> answering.Times:
        raise KeyError("no table at /home/someone/tables/gemm.csv")

    q = {"id": "a", "needs": ["ttft_s"], "input_tokens": 1.0}
    assert answering.one_answer(q, infinite)["kind"] == "error of the tool"
    assert answering.one_answer({**q, "needs": ["itl_s"]}, infinite)["itl_s"] == 0.1
    refused = answering.one_answer(q, broken)["refused"]
    assert "KeyError" in refused and "gemm.csv" in refused and "/home" not in refused


_ADAPTOR = """
import sys
sys.path.insert(0, {folder!r})
from answering import Refused, Times, main
def answer(q):
    print("noise of a tool")
    if q["hardware"].startswith("apple"):
        raise Refused("machine", "unknown")
    return Times(ttft_s=0.25, itl_s=q["input_tokens"] * 1e-5)
main(answer)
"""


def test_questions_travel_to_another_interpreter_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool of three lines in an environment of its own, through the real adaptor protocol."""
    script = tmp_path / "ask.py"
    script.write_text(_ADAPTOR.format(folder=str(ADAPTORS)), encoding="utf-8")
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    tool = Peer("numpy", "json", str(script), "", ())
    assert "make peers" in put(tool, []).failed
    python = tmp_path / "numpy" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    asked = questions(ROWS)
    replies = put(tool, [q.data for q in asked])
    assert not replies.failed and replies.version == np.__version__
    for q in asked:
        reply = replies.answers[q.row.id]
        if q.request.hardware.startswith("apple"):
            assert reply["kind"] == "machine"
        else:
            assert reply["itl_s"] == pytest.approx(q.data["input_tokens"] * 1e-5)
    assert replies.timing["answers"] == sum("refused" not in r for r in replies.answers.values())
    assert replies.import_cpu_s is not None and replies.import_cpu_s > 0


def test_a_tool_that_stops_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    python = tmp_path / "numpy" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    script = tmp_path / "ask.py"
    script.write_text("import no_such_tool\n", encoding="utf-8")
    assert "no_such_tool" in put(Peer("numpy", "json", str(script), "", ()), []).failed


def test_the_page_tells_every_tool_and_no_folder() -> None:
    results = json.loads((peers.ROOT / "benchmarks" / "results" / "peers.json").read_text(encoding="utf-8"))
    failed = {**results, "peers": {**results["peers"], "mlsysim": {"failed": "not installed: no wheel", "stride": 1}}}
    for told in (results, failed):
        text = page(told)
        assert all(p.name in text for p in PEERS)
        assert "/tmp" not in text and "/work" not in text
    assert "no wheel" in page(failed)


def test_the_loop_reads_the_weights_once_a_step_and_computes_the_prompt() -> None:
    asked = question(Configuration(), batch=1, context=4096)
    replies = ask(sys.executable, ADAPTORS / "ask_loop.py", [asked])
    (answer,) = replies.answers.values()
    weights_s = asked["structure"]["parameters"] * 2 / asked["bandwidth_bytes_per_s"]
    prompt_s = asked["structure"]["parameters"] * 2 * 4096 / asked["peak_flops"]
    assert (
        0.9 * weights_s < answer["itl_s"] < 1.3 * weights_s
    )  # all but the embedding, and the KV cache of 4,224 tokens
    assert 0.8 * prompt_s < answer["ttft_s"] < 2.5 * prompt_s  # a plain softmax writes and reads every score
    assert replies.timing["answers_per_cpu_s"] > 0


def test_a_thousand_configurations_all_differ() -> None:
    assert len(set(CONFIGURATIONS)) == len(CONFIGURATIONS) == 1_000
