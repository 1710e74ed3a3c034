"""`measure machine --engine llama.cpp`: its own benchmark, constants in the machine's file, and what predict makes of them."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from pathlib import Path

import pytest
from tests.kernels.random_gguf import RandomModel, write_random_gguf

from waferline.cli import run
from waferline.measure.llama_bench import PROGRAM
from waferline.measure.machine import MachineProfile
from waferline.measure.machine_file import machine_record, save_machine, this_machine, this_machine_path

# A processor that reads 500 prompt tokens a second and decodes 40 a second, and the JSON that llama-bench documents.
_FAKE = """#!{python}
import json, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert options["-o"] == "json" and options["-m"].endswith(".gguf"), sys.argv
{first}
def row(p, n, d, rate):
    return {{"build_commit": "8cf427ff", "build_number": 5163, "cpu_info": "a processor", "gpu_info": "", "backends": "{backends}",
        "model_filename": options["-m"], "model_type": "llama", "model_size": 1,
        "model_n_params": 1, "n_batch": 2048, "n_ubatch": 512,
        "n_threads": 2, "type_k": "f16", "type_v": "f16", "n_gpu_layers": 99, "n_prompt": p, "n_gen": n, "n_depth": d,
        "test_time": "2025-04-24T11:58:50Z", "avg_ns": int(1e9 * (p + n) / rate), "stddev_ns": 0, "avg_ts": rate,
        "stddev_ts": 0.01 * rate, "samples_ns": [], "samples_ts": []}}
counts = lambda key: [int(x) for x in options.get(key, "0").split(",")]
print(json.dumps([row(p, 0, 0, 500.0) for p in counts("-p") if p]
    + [row(0, n, d, 40.0 / (1 + d / 8192)) for n in counts("-n") if n for d in counts("-d")]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_gguf(
        tmp_path_factory.mktemp("bench") / "tiny.gguf", RandomModel(layers=4, d_model=1024, ffn=4096)
    )


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: MachineProfile):  # type: ignore[no-untyped-def]
    """Puts a program called llama-bench before all others, and a measured machine where this machine's is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    save_machine(machine_record(profile), this_machine_path())

    def install(first: str = "", backends: str = "CPU") -> None:
        program = tmp_path / "bin" / PROGRAM
        program.parent.mkdir(exist_ok=True)
        program.write_text(_FAKE.format(python=sys.executable, first=first, backends=backends))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")

    return install


def _said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    code = run([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_constants_land_in_the_machines_file_and_predict_uses_them(installed, model, capsys) -> None:  # type: ignore[no-untyped-def]
    installed()
    code, data = _said(capsys, "measure", "machine", "--engine", "llama.cpp", "--model", str(model))
    assert code == 0
    assert [(r["prompt"], r["output"], r["depth"]) for r in data["readings"]][-1] == (0, 16, 1024)
    assert data["errors"]["after"]["median"] < data["errors"]["before"]["median"]
    device = this_machine()
    assert set(device.engines) == {"llama.cpp"}
    assert "5163" in device.engines["llama.cpp"]["source"]
    asked = ("predict", str(model), "--on", "this", "--engine", "llama.cpp", "--prompt", "256", "--output", "16")
    code, told = _said(capsys, *asked)
    assert code == 0
    assert told["tpot_s"] == pytest.approx(1 / 40, rel=0.15)
    assert told["ttft_s"] == pytest.approx(256 / 500, rel=0.15)
    before = this_machine_path().read_text()
    assert (
        run(["measure", "machine", "--engine", "llama.cpp", "--model", str(model)]) == 0
    )  # again: from the catalogue's
    assert "8cf427ff" in capsys.readouterr().out
    assert this_machine_path().read_text() == before


@pytest.mark.parametrize(
    ("first", "backends", "said"),
    [
        ("sys.exit('error: failed to load model')", "CPU", "it said last: error: failed to load model"),
        ("print('{}'); sys.exit()", "CPU", "printed no results"),
        ("print('[{}]'); sys.exit()", "CPU", "printed a result that is none"),
        ("", "CUDA,CPU", "computes with CPU, CUDA, not with the cores"),
    ],
)
def test_what_is_no_measurement_is_refused(installed, model, capsys, first, backends, said) -> None:  # type: ignore[no-untyped-def]
    installed(first, backends)
    code, data = _said(capsys, "measure", "machine", "--engine", "llama.cpp", "--model", str(model))
    assert code == 4
    assert said in data["error"]["message"]


def test_without_the_program_or_its_model_it_says_what_is_missing(monkeypatch, tmp_path, model, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PATH", str(tmp_path))
    for words, code, said in (
        (("--engine", "llama.cpp", "--model", str(model)), 4, "no program llama-bench is installed"),
        (("--engine", "llama.cpp"), 2, "which model"),
        (("--engine", "vllm", "--model", str(model)), 4, "no benchmark of vLLM"),
        (("--model", str(model)), 2, "--engine"),
    ):
        got, data = _said(capsys, "measure", "machine", *words)
        assert got == code
        assert said in data["error"]["message"]


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="llama.cpp is not installed")
def test_the_real_program(monkeypatch, tmp_path, model, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, data = _said(capsys, "measure", "machine", "--engine", "llama.cpp", "--model", str(model))
    assert code == 0
    assert len(data["readings"]) == 8 and all(r["tokens_per_s"] > 0 and r["threads"] >= 1 for r in data["readings"])
    assert data["errors"]["after"]["median"] <= data["errors"]["before"]["median"]
