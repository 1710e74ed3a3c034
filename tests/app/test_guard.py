"""Who gets an answer, and what an upload may do: the app's own rules, without a browser."""

from __future__ import annotations

import json
import re
import shlex
import socket
from urllib.parse import unquote_plus, urlencode

import pytest
from starlette.testclient import TestClient
from tests.kernels.random_gguf import write_random_gguf

from waferline.app.export import ENDINGS
from waferline.app.server import build
from waferline.app.upload import MOST_BYTES
from waferline.app.views import VIEWS
from waferline.cli import run as command
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.text import metric

HOME = "http://127.0.0.1:8050"
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "intermediate_size": 8192,
    "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "max_position_embeddings": 131072, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture
def client():
    return TestClient(build(), base_url=HOME)


def test_what_a_page_says_is_what_run_answers(client):
    asked = {"model": "mixtral-8x7b", "on": "h200", "batch": "4", "prompt": "1000", "output": "100"}
    said = client.get(f"/explore.json?{urlencode(asked)}").json()
    answer = run(Scenario(model="mixtral-8x7b", machine="h200", batch=4, prompt=1000, output=100))
    assert said["tpot_s"] == float(answer.result["itl_s"])
    assert said["ttft_s"] == float(answer.result["ttft_s"])


@pytest.mark.parametrize("name", [n for n in VIEWS if n not in ("traffic", "wafer", "runs-here")])
def test_every_view_answers_with_the_headers_of_a_closed_page(client, name):
    found = client.get(f"/{name}")
    assert found.status_code == 200
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert (
        "http" not in found.text.replace("http://www.w3.org", "").split("<main>")[0]
    )  # nothing is fetched from elsewhere


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 200),
        ({"host": "localhost:8050"}, 200),
        ({"host": "[::1]:8050"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example:8050"}, 403),
        ({"host": "127.0.0.1:9999"}, 403),
        ({"host": "127.0.0.1:x"}, 403),
        ({"host": ""}, 403),
        ({"origin": HOME}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_only_its_own_name_and_pages(client, headers, code):
    assert client.get("/explore", headers=headers).status_code == code


def test_others_need_the_token():
    client = TestClient(build("0.0.0.0", 8050, "secret"), base_url="http://box.example:8050", follow_redirects=False)
    assert client.get("/explore").status_code == 401
    assert client.get("/explore?token=wrong").status_code == 401
    assert client.get("/plotly.js").status_code == 401
    given = client.get("/explore?token=secret")
    assert given.status_code == 307
    assert "httponly" in given.headers["set-cookie"].lower()
    assert client.get("/explore").status_code == 200


def test_the_command_asks_for_the_flag_before_it_lets_others_in(capsys):
    assert command(["app", "--host", "0.0.0.0"]) == 2
    assert "--open" in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert command(["app", "--port", str(taken.getsockname()[1])]) == 2
    said = capsys.readouterr().err
    assert "another --port" in said and "http://" not in said


@pytest.mark.parametrize(
    "query",
    [
        "model=/etc/passwd", "model=../../etc/passwd", "on=/etc/passwd", "model=nothing", "batch=-1", "batch=1e9", "batch=²",
        "host=/etc/passwd&offload=kv", "nonsense=1", "precision=" + "9" * 5000, "tp=3", "techniques=/etc/passwd",
        "engine=%3Cscript%3E", "batch=" + "9" * 30,
    ],
)  # fmt: skip
def test_bad_questions_are_pages_that_say_why(client, query):
    found = client.get(f"/explore?{query}")
    assert found.status_code == 422
    assert "role=alert" in found.text
    assert "root:" not in found.text
    assert "<script>" not in found.text


def test_the_head_of_a_gguf_file_answers_as_the_whole_file_does(client, tmp_path):
    path = write_random_gguf(tmp_path / "mine.gguf")
    whole = path.read_bytes()
    found = client.post("/explore?on=m4", content=whole[: len(whole) // 2], headers={"X-Size": str(len(whole))})
    assert found.status_code == 200
    assert "Memory of each device" in found.text
    answer = run(Scenario(model=str(path), machine="m4", batch=8, prompt=2048, output=256))
    assert metric(float(answer.result["device_weights_bytes"]), "B") in found.text


def test_a_dot_leads_to_its_row_and_to_where_its_time_goes(client):
    dots = re.findall(r"/accuracy\?row=([\w%.+-]+)", client.get("/accuracy?metric=output_tokens_per_s").text)
    assert len(dots) > 100
    found = client.get(f"/accuracy?row={dots[0]}")
    assert found.status_code == 200
    assert "Beside each other" in found.text and unquote_plus(dots[0]) in found.text
    assert client.get("/accuracy?row=nothing").status_code == 422


def test_a_point_of_the_front_leads_to_its_configuration(client):
    points = re.findall(r"/explore\?[\w=&.+-]+", client.get("/compare?on=h100,l40s&formats=int4").text)
    assert {p.partition("on=")[2].partition("&")[0] for p in points} == {"nvidia-h100-sxm-80gb", "nvidia-l40s"}
    assert "--precision int4" in client.get(points[0]).text


def test_deployments_are_ranked_as_plan_ranks_them(client):
    asked = "on=l4&precision=fp8&rate=1&requests=50&prompt=256&output=32&slo=p99-ttft=2s,p99-tpot=60ms"
    found = client.get(f"/traffic?{asked}&among=l4")
    assert found.status_code == 200
    assert "holds with" in found.text and "nvidia-l4" in found.text
    assert client.get(f"/traffic?{asked}&among=l4,l40s,h100,h200").status_code == 422


def test_an_upload_is_read_and_not_kept(client, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = client.post("/explore?on=h100", content=json.dumps(LLAMA).encode())
    assert found.status_code == 200
    assert "Memory of each device" in found.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", 422), (b"not a model", 422), (b"{", 422), (b"{}", 422), (b"[" * 100_000, 422), (b'{"model_type": "nonesuch"}', 422),
        (b"GGUF", 422), (b"GGUF\x03\x00\x00\x00" + b"\xff" * 64, 422), (b"\x00" * 4096, 422), (b"{" * 50_000, 422),
        (b"{" + b" " * MOST_BYTES, 422),
    ],
)  # fmt: skip
def test_bad_uploads_are_refused_in_words(client, content, code, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = client.post("/explore", content=content, headers={"X-Size": str(1 << 50)})
    assert found.status_code == code
    assert "role=alert" in found.text
    assert str(tmp_path) not in found.text
    assert not list(tmp_path.iterdir())


ASKED = {"traffic": "requests=50&on=l4&rate=1&precision=fp8", "wafer": "size=32&grid=4", "runs-here": "on=m4&formats=q4_k_m",
         "accuracy": "machine=l40s"}  # fmt: skip
STARTS = {"png": b"\x89PNG", "svg": b"<?xml"}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", VIEWS)
def test_every_view_has_every_export(client, name, ending, a_store):
    found = client.get(f"/{name}.{ending}?{ASKED.get(name, '')}")
    assert found.status_code == 200
    assert found.content.startswith(STARTS.get(ending, b"")) and len(found.content) > 20
    assert f"waferline-{name}.{ending}" in found.headers["content-disposition"]


@pytest.mark.parametrize("name", VIEWS)
def test_the_lines_of_every_view_run(client, name, a_store, capsys):
    exec(client.get(f"/{name}.py?{ASKED.get(name, '')}").text, {})
    if name != "accuracy":  # a report on all rows: tests/evidence has it
        for line in client.get(f"/{name}.sh?{ASKED.get(name, '')}").text.splitlines():
            assert command(shlex.split(line)[1:]) in (0, 3)


def test_an_answer_without_a_chart_is_a_picture_of_its_text(client):
    found = client.get("/accuracy.svg?source=nobody-of-that-name")
    assert found.status_code == 200 and "No row is left" in found.text


def test_what_was_measured_stands_beside_what_was_predicted(client, a_store):
    found = client.get("/measured.json?ran=gemv").json()["measurements"]
    assert [(f["name"], f["measured"], f["predicted"]) for f in found] == [("gemv 64x512 q4_k", 2e-6, 1e-6)]
    page = client.get("/measured").text
    assert "half are within 50&nbsp;%" in page and "2 figures" not in page
    assert client.get("/measured.csv").text.startswith("what_ran")
    a_store.unlink()
    assert "Nothing that ran here is kept" in client.get("/measured").text


@pytest.fixture
def a_store(tmp_path, monkeypatch):
    """A store of this user's with one operator that was predicted and one that was not."""
    monkeypatch.setenv("WAFERLINE_MEASUREMENTS", str(tmp_path / "store.jsonl"))
    return write_store(tmp_path / "store.jsonl")


def write_store(path):
    ran = {"engaged": True, "name": "gemv 64x512 q4_k", "device": "cpu", "started": "2026-01-02T00:00:00+00:00",
           "median_s": 2e-6, "spread": 0.1, "repeats": 5, "work": {}, "rates": {}, "check": {"reference": "numpy", "error": 0.0},
           "conditions": {"warnings": []}, "machine": {"digest": "0", "cpu": "a CPU", "cores": 2, "isa": "avx2"},
           "predicted": {"expected_s": 1e-6, "low90_s": 5e-7, "high90_s": "none"}}  # fmt: skip
    path.write_text("\n".join(map(json.dumps, (ran, {**ran, "name": "softmax", "predicted": None}))) + "\n")
    return path


def test_files_of_an_upload_are_of_the_upload(client):
    content = json.dumps(LLAMA).encode()
    assert client.post("/explore.json?on=h100", content=content).json()["model"] == "your-model"
    assert " config.json " in client.post("/explore.sh?on=h100", content=content).text


def test_the_lines_of_an_export_run(client, capsys):
    line = client.get("/explore.sh?batch=3").text.split()
    assert line[0] == "waferline"
    assert command([*line[1:], "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["tpot_s"] == client.get("/explore.json?batch=3").json()["tpot_s"]
    space: dict = {}
    exec(client.get("/explore.py?batch=3").text, space)
    assert float(space["answer"].result["itl_s"]) == shown["tpot_s"]


@pytest.mark.parametrize("path", ["/nothing", "/explore.exe", "/explore.png?chart=99", "/nothing.csv"])
def test_what_is_not_there(client, path):
    assert client.get(path).status_code in (404, 422)
