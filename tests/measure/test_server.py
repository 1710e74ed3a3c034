"""The server client on loopback: known timing comes back, every fault is named, nothing hangs and nothing is hidden."""

from __future__ import annotations

import csv
import io
import json
import math
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.errors import FileFormatError, InvalidInputError, RefusedError
from waferline.measure.rows import evidence_rows, rows_csv
from waferline.measure.server import Load, Target, measure_server
from waferline.measure.server.guidellm import read_guidellm
from waferline.measure.server.prompt import prompt_of, words_for
from waferline.measure.server.statistics import summarise
from waferline.measure.server.stream import Answer, Failure

from . import loopback as toy

QUICK = {"prompt_tokens": 8, "output_tokens": 6}


def target(url: str, **changes: object) -> Target:
    return Target(url, **{"timeout_s": 5.0, "stall_s": 2.0, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_known_timing_comes_back(endpoint: str) -> None:
    """TTFT and ITL are never below what the server sleeps; the median is near it even on a busy machine."""
    with toy.serving(toy.timed(0.08, 0.02)) as (url, seen):
        (result,) = measure_server(target(url, endpoint=endpoint), [Load(6, warmups=1)], **QUICK)
    s = result.summary
    assert result.engaged
    assert (s["answered"], s["error_rate"], s["output_tokens"]) == (6, 0.0, 36)
    assert 0.079 <= s["ttft_s"]["p50"] < 0.4
    assert 0.015 <= s["itl_s"]["mean"] < 0.1
    assert s["tpot_s"]["p50"] == pytest.approx(s["itl_s"]["mean"], rel=0.5)
    assert s["ttft_s"]["p50"] <= s["ttft_s"]["p90"] <= s["ttft_s"]["p99"]
    assert s["counted_by"] == ["server usage"]
    assert result.target.model == "toy"
    assert {path for path, _ in seen} == {f"/v1/{'chat/' if endpoint == 'chat' else ''}completions"}
    assert json.dumps(result.to_json(), allow_nan=False)


def test_prompts_are_sized_by_the_servers_own_count_and_never_repeat() -> None:
    with toy.serving(toy.timed(0.0, 0.0)) as (url, seen):
        results = measure_server(target(url), [Load(6), Load(6, concurrency=3)], prompt_tokens=40, output_tokens=4)
    prompts = [request["prompt"] for _, request in seen]
    assert len(prompts) == len(set(prompts)) == 1 + 2 * (2 + 6)
    assert {len(p.split()) for p in prompts[1:]} == {20}  # the toy counts two tokens a word
    assert [r.summary["prompt_tokens_mean"] for r in results] == [40.0, 40.0]
    assert [r.load.concurrency for r in results] == [1, 3]


def test_closed_loop_overlaps_requests() -> None:
    with toy.serving(toy.timed(0.1, 0.0)) as (url, _):
        one, four = measure_server(target(url), [Load(8, warmups=0), Load(8, concurrency=4, warmups=0)], **QUICK)
    assert four.summary["requests_per_s"] > 1.8 * one.summary["requests_per_s"]


def test_open_loop_sends_at_its_rate_whatever_the_answers_take() -> None:
    with toy.serving(toy.timed(0.3, 0.0)) as (url, _):
        (result,) = measure_server(target(url), [Load(20, rate_per_s=40.0, warmups=0)], **QUICK)
    assert result.summary["answered"] == 20
    # one at a time, 20 answers of 0.3 s would take 6 s
    assert result.summary["duration_s"] < 3.0


def test_tokens_counted_as_chunks_are_said_to_be() -> None:
    with toy.serving(toy.timed(0.0, 0.0, usage=False)) as (url, _):
        (result,) = measure_server(target(url), [Load(5, warmups=0)], **QUICK)
    assert result.summary["counted_by"] == ["stream chunks"]
    assert any("chunks" in w for w in result.warnings())


def test_several_tokens_a_chunk_are_noticed() -> None:
    with toy.serving(toy.timed(0.0, 0.0, per_chunk=3)) as (url, _):
        (result,) = measure_server(target(url), [Load(5, warmups=0)], **QUICK)
    assert result.summary["output_tokens"] == 30
    assert result.summary["tokens_per_chunk"] == 3.0
    assert any("tokens a chunk" in w for w in result.warnings())


@pytest.mark.parametrize(
    ("writer", "fault"),
    [
        (toy.stalls, "stall"),
        (toy.trickles, "timeout"),
        (toy.drops, "dropped"),
        (toy.ends_early, "dropped"),
        (toy.rubbish, "rubbish"),
        (toy.binary, "rubbish"),
        (toy.web_page, "rubbish"),
        (toy.wrong_shape, "rubbish"),
        (toy.error_event, "rubbish"),
        (toy.endless_line, "rubbish"),
        (toy.says_nothing, "empty"),
        (toy.answers(503, b'{"error": "no capacity"}'), "http"),
        (toy.answers(429, b"slow down", Retry_After="3600"), "http"),
        (toy.answers(500), "http"),
        (toy.answers(307, Location="http://127.0.0.1:9/"), "http"),
        (toy.answers(500, b"x" * 2**24), "http"),
        (toy.endless_error, "http"),
        (toy.compressed, "rubbish"),
        (toy.answers(500, toy.BOMB, Content_Encoding="gzip"), "http"),
        (toy.says(toy.DEEP), "rubbish"),
        (toy.says({"choices": [3]}), "rubbish"),
        (toy.says({"choices": [{"text": 3}]}), "rubbish"),
        (toy.says({"choices": [{"text": "x"}] * 1000}), "rubbish"),
        (toy.says({"choices": [{"delta": [1]}]}), "rubbish"),
        (toy.endless(b": " + b"x" * 2**19 + b"\n"), "rubbish"),
        (toy.drips, "timeout"),
        (toy.huge_header, "dropped"),
        (toy.no_http, "dropped"),
        (toy.endless(b'data: {"choices": [{"text": "x"}]}\n\n'), "lying"),
        (toy.says(chunks=8), "lying"),  # two more than were asked for, uncounted
        *((toy.counts(n), "lying") for n in (10**30, 10**6, 7, 5, 0, -1, 2.0, True, "2", [2])),
        (toy.counts(1, chunks=5), "lying"),
        *((toy.counts(2, prompt=n), "lying") for n in (10**30, 10**6, 1, -1, 3.5, "8")),
    ],
)
def test_every_fault_is_named_and_counted(writer: toy.Writer, fault: str) -> None:
    """A healthy first answer (the warm-up), then nothing but faults: no rate, exit code 4, and the kind of each."""
    healthy = toy.timed(0.0, 0.0)
    calls = iter(range(100))

    def write(handler: toy.Handler, request: dict) -> None:  # type: ignore[type-arg]
        (healthy if next(calls) == 0 else writer)(handler, request)

    with toy.serving(write) as (url, _):
        limits = {"timeout_s": 0.5, "stall_s": 0.3} if fault in ("stall", "timeout") else {}
        (result,) = measure_server(target(url, **limits), [Load(5, concurrency=5, warmups=0)], **QUICK)
    assert all(len(sample) < 320 and sample.isprintable() for sample in result.summary["error_samples"])
    assert result.summary["errors"] == {fault: 5}
    assert result.summary["error_rate"] == 1.0
    assert not result.engaged
    record = result.to_json()
    assert record["rates"] == {}
    assert list(evidence_rows([record])) == []
    assert result.error().exit_code == 4
    assert fault in str(result.error())


def test_some_faults_among_answers_are_reported_not_dropped() -> None:
    healthy = toy.timed(0.0, 0.0)
    calls = iter(range(100))

    def write(handler: toy.Handler, request: dict) -> None:  # type: ignore[type-arg]
        (toy.drops if next(calls) % 4 == 2 else healthy)(handler, request)

    with toy.serving(write) as (url, _):
        (result,) = measure_server(target(url), [Load(16, warmups=0)], **QUICK)
    assert result.engaged
    assert result.summary["errors"] == {"dropped": 4}
    assert result.summary["error_rate"] == 0.25
    assert any("25.0% of the requests failed" in w for w in result.warnings())
    (row,) = evidence_rows([result.to_json()])
    assert row["metric"] == "output_tokens_per_s"
    assert row["suspect"]


def test_one_lie_among_answers_is_no_measurement() -> None:
    healthy, liar = toy.timed(0.0, 0.0), toy.counts(10**6)
    calls = iter(range(100))

    def write(handler: toy.Handler, request: dict) -> None:  # type: ignore[type-arg]
        (liar if next(calls) == 9 else healthy)(handler, request)

    with toy.serving(write) as (url, _):
        (result,) = measure_server(target(url), [Load(16, warmups=0)], **QUICK)
    assert (result.summary["answered"], result.engaged) == (15, False)
    assert list(evidence_rows([result.to_json()])) == []
    with pytest.raises(RefusedError, match="1e\\+06 tokens in 2 chunks"):
        result.required()


def test_silent_tokens_are_no_lie() -> None:
    """What has no text (the end of a sequence, again and again) comes in chunks of its own, and counts."""

    def write(handler: toy.Handler, request: dict) -> None:  # type: ignore[type-arg]
        silent = [{"choices": [{"text": ""}]}] * (request["max_tokens"] - 1)
        usage = {"choices": [], "usage": {"completion_tokens": request["max_tokens"]}}
        toy.says(*silent, usage, chunks=1)(handler, request)

    with toy.serving(write) as (url, _):
        (result,) = measure_server(target(url), [Load(5, warmups=0)], **QUICK)
    assert result.engaged and result.summary["output_tokens"] == 30


@pytest.mark.parametrize(
    "models",
    [
        toy.answers(200, b"{"),
        toy.answers(200, toy.DEEP.encode()),
        toy.answers(200, json.dumps({"data": {"id": 3}}).encode()),
        toy.answers(200, b'{"data": []}'),
        toy.answers(401),
        toy.answers(302, Location="/v1/models"),
        toy.compressed,
        toy.endless(b" " * 2**16),
        toy.stalls,
        toy.drips,
        toy.no_http,
    ],
)
def test_a_list_of_models_that_is_none_costs_a_moment_and_no_measurement(models: toy.Writer) -> None:
    with toy.serving(toy.timed(0.0, 0.0), models) as (url, seen):
        started = time.perf_counter()
        (result,) = measure_server(target(url, stall_s=0.4), [Load(5, warmups=0)], **QUICK)
    assert time.perf_counter() - started < 4.0
    assert result.engaged and result.target.model == ""
    assert {request["model"] for _, request in seen} == {"default"}


@pytest.mark.parametrize("name", [toy.ESCAPES, "a\nb", "x" * 10**5])
def test_a_name_that_is_none_is_refused_on_one_line(name: str) -> None:
    with toy.serving(toy.timed(0.0, 0.0), toy.lists(name)) as (url, _):
        with pytest.raises(RefusedError) as caught:
            measure_server(target(url), [Load(5)], **QUICK)
        (result,) = measure_server(target(url, model="mine"), [Load(5)], **QUICK)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
    assert result.engaged


@pytest.mark.parametrize("writer", [toy.answers(500, toy.ESCAPES.encode()), toy.says({"error": toy.ESCAPES})])
def test_what_a_server_says_steers_no_terminal(writer: toy.Writer) -> None:
    with toy.serving(writer) as (url, _), pytest.raises(RefusedError) as caught:
        measure_server(target(url), [Load(5)], **QUICK)
    assert str(caught.value).isprintable()


def test_a_name_cannot_become_a_formula() -> None:
    with toy.serving(toy.timed(0.0, 0.0), toy.lists("=cmd|'/C calc'!A0")) as (url, _):
        (result,) = measure_server(target(url), [Load(5)], **QUICK)
    (row,) = csv.DictReader(io.StringIO(rows_csv(evidence_rows([result.to_json()]))))
    assert row["model"] == "'=cmd|'/C calc'!A0"


def test_tls_that_is_none_is_refused() -> None:
    with toy.serving(toy.timed(0.0, 0.0)) as (url, _), pytest.raises(RefusedError, match="connect"):
        measure_server(target(url.replace("http:", "https:")), [Load(5)], **QUICK)


def test_a_server_that_is_down_is_refused() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with pytest.raises(RefusedError, match="connect") as caught:
        measure_server(target(f"http://127.0.0.1:{port}/v1"), [Load(5)], **QUICK)
    assert caught.value.exit_code == 4


def test_a_server_that_refuses_unknown_options_is_asked_without() -> None:
    healthy = toy.timed(0.0, 0.0)

    def strict(handler: toy.Handler, request: dict) -> None:  # type: ignore[type-arg]
        if "ignore_eos" not in request:
            return healthy(handler, request)
        handler.send_response(400)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return None

    with toy.serving(strict) as (url, _):
        (result,) = measure_server(target(url), [Load(5, warmups=0)], **QUICK)
    assert result.engaged
    assert not result.target.extras


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Load(0),
        lambda: Load(5, concurrency=0),
        lambda: Load(5, rate_per_s=0.0),
        lambda: Load(5, rate_per_s=float("inf")),
        lambda: Load(5, most_s=-1.0),
        lambda: Load(10**9),
        lambda: Target("127.0.0.1:8080"),
        lambda: Target("http://127.0.0.1", endpoint="embeddings"),
        lambda: Target("http://127.0.0.1", timeout_s=0.0),
        lambda: Target("http://127.0.0.1", timeout_s=float("nan")),
        lambda: Target("http://127.0.0.1", stall_s=float("inf")),
        lambda: Target("http://"),
        lambda: Target("http://127.0.0.1:99999/v1"),
        lambda: Target("http://[::1/v1"),
        lambda: Target("http://127.0.0.1", key="two\nlines"),
        lambda: measure_server(Target("http://127.0.0.1:9"), [Load(5)], prompt_tokens=0),
        lambda: measure_server(Target("http://127.0.0.1:9"), [Load(5)], output_tokens=-1),
    ],
)
def test_impossible_loads_are_bad_input(bad: object) -> None:
    with pytest.raises(InvalidInputError):
        bad()  # type: ignore[operator]


@given(st.lists(st.lists(st.floats(1e-4, 10.0), min_size=1, max_size=8), min_size=1, max_size=12))
def test_summary_laws(runs: list[list[float]]) -> None:
    """TTFT <= latency, percentiles rise, tokens and errors add up."""
    results: list[Answer | Failure] = [Failure(0.0, 0.1, "stall", "x")]
    for gaps in runs:
        arrivals, now = [], 0.0
        for gap in gaps:
            now += gap
            arrivals.append(now)
        results.append(Answer(0.0, tuple(arrivals), now, len(gaps), None, "stream chunks"))
    s = summarise(results)
    assert s["output_tokens"] == sum(map(len, runs))
    assert s["requests"] == s["answered"] + sum(s["errors"].values())
    assert s["ttft_s"]["p50"] <= s["latency_s"]["p50"]
    for key in ("ttft_s", "latency_s"):
        assert s[key]["p50"] <= s[key]["p90"] <= s[key]["p95"] <= s[key]["p99"]


def test_words_and_prompts() -> None:
    assert words_for(512, 512, None) == 512
    assert words_for(512, 512, 1024) == 256
    assert words_for(1, 1, 50) == 1
    assert prompt_of(30, 1) == prompt_of(30, 1) != prompt_of(30, 2)
    assert len(prompt_of(30, 1).split()) == 30


def _guidellm(**changes: object) -> dict[str, object]:
    def spread(middle: float) -> dict[str, object]:
        percentiles = {f"p{q}": middle * f for q, f in ((50, 1.0), (90, 1.5), (95, 1.7), (99, 2.0))}
        return {"successful": {"mean": middle, "median": middle, "percentiles": percentiles}}

    metrics = {
        "time_to_first_token_ms": spread(120.0),
        "inter_token_latency_ms": spread(9.0),
        "time_per_output_token_ms": spread(10.0),
        "request_latency": spread(2.5),
        "output_tokens_per_second": spread(800.0),
        "requests_per_second": spread(4.0),
    }
    made = {"successful": 95, "incomplete": 3, "errored": 2}
    strategy = {"strategy": {"type_": "concurrent", "streams": 16}}
    return {"args": strategy, "run_stats": {"requests_made": made}, "metrics": metrics, **changes}


def test_guidellm_reports_are_read_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    path.write_text(
        json.dumps(
            {"benchmarks": [_guidellm(), _guidellm(args={}, config={"strategy": {"type_": "poisson", "rate": 4.0}})]}
        )
    )
    first, second = read_guidellm(path)
    assert first["ttft_s"] == pytest.approx({"mean": 0.12, "p50": 0.12, "p90": 0.18, "p95": 0.204, "p99": 0.24})
    assert first["latency_s"]["p50"] == 2.5
    assert (first["answered"], first["error_rate"], first["output_tokens_per_s"]) == (95, 0.05, 800.0)
    assert first["load"] == {"strategy": "concurrent", "concurrency": 16, "rate_per_s": None}
    assert second["load"]["rate_per_s"] == 4.0


_WRONG = (None, True, -1.0, 10**400, float("nan"), float("inf"), "3", [], [1], {}, {"a": 1})


def _places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where everything in nested data lies."""
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, each in inner for place in _places(each, (*path, key)))]


def test_anything_wrong_in_a_guidellm_report_is_a_typed_error_or_a_sane_answer(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    for place in _places(json.loads(json.dumps(_guidellm()))):
        for wrong in _WRONG:
            data: object = json.loads(json.dumps(_guidellm()))
            if place:
                holder: object = data
                for key in place[:-1]:
                    holder = holder[key]  # type: ignore[index]
                holder[place[-1]] = wrong  # type: ignore[index]
            else:
                data = wrong
            path.write_text(json.dumps(data))
            try:
                found = read_guidellm(path)
            except FileFormatError as error:
                assert str(error).isprintable()
                continue
            for summary in found:
                times = [v for key in ("ttft_s", "itl_s", "latency_s") for v in (summary[key] or {}).values()]
                rates = [summary[key] for key in ("output_tokens_per_s", "requests_per_s")]
                assert all(0 <= v < math.inf for v in times + rates if v is not None)
    path.write_text('{"benchmarks": ' + "[" * 100_000)
    with pytest.raises(FileFormatError, match="deep"):
        read_guidellm(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"benchmarks": 3}', '{"benchmarks": [{}]}', '{"benchmarks": [3]}'])
def test_what_is_no_guidellm_report_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "g.json"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=r"g\.json"):
        read_guidellm(path)
    with pytest.raises(FileFormatError):
        read_guidellm(tmp_path / "absent.json")


def test_a_record_that_lacks_what_a_measurement_has_is_no_row() -> None:
    with toy.serving(toy.timed(0.0, 0.0)) as (url, _):
        (result,) = measure_server(target(url), [Load(5)], **QUICK)
    record = json.loads(json.dumps(result.to_json()))
    assert len(list(evidence_rows([record]))) == 1
    for place in _places({key: record[key] for key in ("check", "conditions", "machine", "detail")})[1:]:
        holder = damaged = json.loads(json.dumps(record))
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = None
        assert len(list(evidence_rows([damaged]))) <= 1
    del record["machine"]
    assert list(evidence_rows([record, {"engaged": True}, {}])) == []
