"""The commands of `waferline simulate mesh`, as a user types them."""

import json

import pytest
from typer.testing import CliRunner

from waferline.cli.simulate_mesh import app
from waferline.errors import WaferlineError

RUN = CliRunner()


def data(*arguments: str) -> dict:
    outcome = RUN.invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert outcome.exit_code == 0
    return json.loads(outcome.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("gemm", "64x64x64", "--grid", "8x8", "--algorithm", "cannon"),
        ("gemm", "64x50x64", "--grid", "8x6"),
        ("gemm", "64x64x64", "--grid", "8x8", "--fidelity", "event"),
        ("gemv", "512x256", "--grid", "8x8", "--reduce", "chain"),
        ("gemv", "512x256", "--grid", "8x8", "--weights", "q4_k", "--device", "sdk-sim-wse3"),
        ("allreduce", "--words", "16", "--grid", "12x8", "--fidelity", "event"),
        ("gemm", "64x64x64", "--grid", "8x8", "--fidelity", "closed"),
    ],
)
def test_every_command_answers_with_cycles_error_and_compliance(arguments):
    answer = data(*arguments)
    assert answer["cycles"] > 0 and answer["seconds"] > 0
    assert answer["max_abs_error"] <= answer["tolerance"]
    assert set("PLMR") < set(answer["compliance"])
    text = RUN.invoke(app, [*arguments, "--trace"], catch_exceptions=False)
    assert text.exit_code == 0 and "PLMR" in text.stdout


def test_kv_and_trace_as_data():
    assert data("kv", "llama-3-8b", "--grid", "360x360", "--policy", "concat")["rows"] == 360
    assert len(data("gemm", "32x32x32", "--grid", "8x8", "--trace")["trace"]) == 8


@pytest.mark.parametrize("name", ["map.png", "map.html"])
def test_pictures(tmp_path, name):
    path = tmp_path / name
    data("gemm", "64x64x64", "--grid", "8x8", "--plot", str(path))
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") if name.endswith("png") else b"step by step" in content


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("gemm", "8x8x8", "--grid", "1000x8"), 2, "750x994"),
        (("gemm", "8x8", "--grid", "8x8"), 2, "MxKxN"),
        (("gemm", "8x8x8", "--grid", "8"), 2, "WIDTHxHEIGHT"),
        (("gemm", "-8x8x8", "--grid", "8x8"), 2, ""),
        (("gemm", "9000x9000x9000", "--grid", "16x16"), 3, "core SRAM"),
        (("gemm", "64x64x64", "--grid", "8x8", "--colours", "5"), 3, "9 colours"),
        (("gemm", "64x64x64", "--grid", "8x8", "--sram", "6200"), 3, "6200"),
        (("gemv", "64x64", "--grid", "8x8", "--reduce", "tree"), 2, "ktree"),
        (("allreduce", "--grid", "8x8", "--reduce", "ktree:²"), 2, "ktree"),
        (("allreduce", "--grid", "1x1", "--reduce", "ktree:999999999"), 2, "ktree"),
        (("allreduce", "--words", "0", "--grid", "8x8"), 2, "positive"),
        (("allreduce", "--words", "9" * 30, "--grid", "8x8"), 3, "vector"),
        (("allreduce", "--words", "20000", "--grid", "8x8"), 3, "vector"),
        (("kv", "llama-3-70b", "--grid", "660x660"), 3, "weights"),
        (("kv", "lama-3-8b", "--grid", "660x660"), 2, "lama-3-8b"),
        (("kv", "llama-3-8b", "--grid", "660x660", "--sram", "1073741824"), 2, "too many"),
        (("gemm", "8x8x8", "--grid", "²x8"), 2, "WIDTHxHEIGHT"),
        (("forward", "llama-3-8b", "--grid", "0x4"), 2, "0x4"),
        (("forward", "llama-3-8b", "--grid", "4x5000"), 2, "64x64"),
        (("forward", "llama-3-8b", "--format", "int8"), 2, "fp16"),
        (
            ("gemm", "4096x4096x4096", "--grid", "720x720", "--plot", "folder"),
            2,
            ".png, .svg and .html",
        ),  # before the run
        (("gemm", "8x8x8", "--grid", "9" * 5000 + "x8"), 2, "WIDTHxHEIGHT"),
        (("gemm", "8x8x8", "--grid", "4x4", "--plot", "x.pdf"), 2, ".png, .svg and .html"),
    ],
)
def test_bad_input_is_refused_with_its_limit(arguments, code, text):
    outcome = RUN.invoke(app, list(arguments))
    if isinstance(outcome.exception, WaferlineError):
        assert outcome.exception.exit_code == code
        assert text in str(outcome.exception)
    else:  # Typer's own refusal of a word that looks like an option
        assert outcome.exit_code == code == 2


@pytest.mark.parametrize("plot", ["folder.png", "folder.html", "missing/x.png", "missing/x.html"])
def test_a_picture_that_cannot_be_written_is_one_line_and_no_file(tmp_path, plot):
    (tmp_path / plot).mkdir() if plot.startswith("folder") else None
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WaferlineError, match="cannot be written"):
        RUN.invoke(app, ["gemm", "8x8x8", "--grid", "4x4", "--plot", str(tmp_path / plot)], catch_exceptions=False)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("gemm", "8x8x8", "--grid", "4x4", "--seed", "-1"),
        ("allreduce", "--grid", "4x4", "--seed", "-1"),
        ("allreduce", "--grid", "4x4", "--group", "0"),
        ("allreduce", "--grid", "4x4", "--group", "-1"),
        ("allreduce", "--grid", "4x4", "--sram", "9" * 400),
        ("kv", "llama-3-8b", "--grid", "360x360", "--sram", "10000000000"),
    ],
)
def test_numbers_out_of_range_are_usage_errors(arguments):
    assert RUN.invoke(app, list(arguments)).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "how"),
    [
        (("gemm", "64x64x64", "--grid", "8x8"), "simulated"),
        (("gemm", "64x64x64", "--grid", "8x8", "--fidelity", "event"), "simulated"),
        (("gemm", "64x64x64", "--grid", "8x8", "--fidelity", "closed"), "predicted"),
        (("gemm", "512x512x512", "--grid", "256x256", "--no-data"), "predicted"),  # too many words to be quick
        (("gemv", "512x256", "--grid", "8x8"), "simulated"),
        (("gemv", "512x256", "--grid", "8x8", "--fidelity", "closed"), "predicted"),
        (("allreduce", "--grid", "8x8"), "simulated"),
        (("allreduce", "--grid", "8x8", "--fidelity", "closed"), "predicted"),
    ],
)
def test_simulated_means_that_the_machine_was_run(arguments, how):
    """A closed form says predicted, in data and on the screen."""
    assert data(*arguments)["how"] == how
    text = RUN.invoke(app, list(arguments), catch_exceptions=False).stdout
    assert f"\n{how}, " in text and ("simulated, " in text) == (how == "simulated")


def test_a_small_model_runs_on_the_mesh():
    facts = data("forward", "llama-3-8b")
    assert facts["how"] == "simulated" and facts["max_abs_error"] <= facts["tolerance"]
