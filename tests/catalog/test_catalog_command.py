"""`waferline catalog`: lists, items with sources, and errors, as tables and as data."""

import json

import pytest

from waferline.cli import run


def answer(capsys, *arguments):
    code = run(["catalog", *arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.mark.parametrize("part", ["hardware", "models", "formats"])
def test_lists_as_table_and_data_hold_the_same_items(capsys, part):
    code, text, _ = answer(capsys, part)
    assert code == 0
    code, data, _ = answer(capsys, part, "--json")
    names = [item["name"] for item in json.loads(data)]
    assert code == 0 and len(names) >= 40
    shown = {line.split()[0] for line in text.splitlines() if line.strip()}
    assert set(names) <= shown


def test_one_machine_shows_every_figure_with_its_source(capsys):
    _, data, _ = answer(capsys, "hardware", "H100", "--json")
    machine = json.loads(data)
    assert machine["name"] == "nvidia-h100-sxm-80gb" and machine["assumed_from"] is None
    assert {f["figure"]: f["value"] for f in machine["figures"]}["memory.HBM3.bandwidth_bytes_per_s"] == 3.35e12
    assert all(s["url"] and s["date"] for f in machine["figures"] for s in f["sources"]) and machine["figures"]
    code, text, _ = answer(capsys, "hardware", "h100")
    assert code == 0 and "3.35 TB/s" in text and "NVIDIA H100 product page" in text and "700 W" in text


def test_an_ambiguous_name_says_what_was_taken(capsys):
    assert "does not say which variant" in answer(capsys, "hardware", "nvidia-a100")[1]
    assert json.loads(answer(capsys, "hardware", "nvidia-a100", "--json")[1])["assumed_from"] == "nvidia-a100"


def test_a_kind_filters_the_list(capsys):
    machines = json.loads(answer(capsys, "hardware", "--kind", "wafer", "--json")[1])
    assert {m["kind"] for m in machines} == {"wafer"} and len(machines) >= 2


def test_models_and_formats_show_their_sources(capsys):
    model = json.loads(answer(capsys, "models", "mixtral-8x7b", "--json")[1])
    assert model["params"] == pytest.approx(46.7e9, rel=1e-3) and model["sources"][0]["url"].startswith("https://")
    assert "https://" in answer(capsys, "models", "llama3-8b")[1]
    fmt = json.loads(answer(capsys, "formats", "Q4_K", "--json")[1])
    assert fmt["bits"] == 4.5 and fmt["source"].startswith("https://")


@pytest.mark.parametrize("part", ["hardware", "models", "formats"])
def test_an_unknown_name_is_one_line_and_exit_code_2(capsys, part):
    code, out, err = answer(capsys, part, "zzz-9")
    assert code == 2 and not out and err.startswith("waferline: unknown") and err.count("\n") == 1
    code, out, _ = answer(capsys, part, "zzz-9", "--json")
    assert code == 2 and json.loads(out)["error"]["kind"] == "unknown-name"


def test_an_unknown_kind_is_named(capsys):
    code, _, err = answer(capsys, "hardware", "--kind", "gpuu")
    assert code == 2 and "did you mean gpu" in err


def test_a_model_shows_its_heads_cache_and_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["catalog", "models", "llama-3-8b"]) == 0
    page = capsys.readouterr().out
    assert "32 x 32 heads, 8 KV, 128 wide" in page and "131 kB" in page and "bf16 16.1 GB" in page
    assert run(["catalog", "models", "llama-3-8b", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["kv_bytes_per_token"] == 2 * 2 * 8 * 128 * 32 and data["weights_bytes"]["bf16"] == 2 * data["params"]
