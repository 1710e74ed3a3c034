"""`waferline quantize` and `waferline formats`, as a user calls them."""

import errno
import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from typer.testing import CliRunner

from waferline.cli.app import app
from waferline.errors import FileFormatError, UnsupportedError

root = app
run = CliRunner()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).standard_normal((4, 256)).astype(np.float32)
    entries = {"a.weight": {"dtype": "F32", "shape": [4, 256], "data_offsets": [0, x.nbytes]}}
    text = json.dumps(entries).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + x.tobytes())
    return path


def test_quantize_writes_a_file_and_says_what_it_lost(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.gguf"
    result = run.invoke(root, ["quantize", str(weights), "--format", "q4_k", "-o", str(out), "--json"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["bits"] == 4.5 and report["file_bytes"] == out.stat().st_size
    assert 0.05 < report["tensors"][0]["error"]["relative_l2"] < 0.1
    assert gguf.GGUFReader(out).tensors[0].tensor_type.name == "Q4_K"


def test_an_existing_output_needs_force(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.gguf"
    out.write_bytes(b"mine")
    arguments = ["quantize", str(weights), "-f", "q8_0", "-o", str(out)]
    refused = run.invoke(root, arguments)
    assert isinstance(refused.exception, FileFormatError) and out.read_bytes() == b"mine"
    assert run.invoke(root, [*arguments, "--force"]).exit_code == 0 and out.read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("name", ["x" * 300 + ".gguf", "none/o.gguf", "folder.gguf"])
def test_an_impossible_output_is_one_line(weights: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.gguf").mkdir()
    before = sorted(tmp_path.iterdir())
    result = run.invoke(root, ["quantize", str(weights), "-f", "q8_0", "--force", "-o", str(tmp_path / name)])
    assert isinstance(result.exception, FileFormatError) and "cannot be written" in str(result.exception)
    assert "\n" not in str(result.exception) and sorted(tmp_path.iterdir()) == before


def test_a_full_disk_is_one_line_and_leaves_nothing(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", full)
    result = run.invoke(root, ["quantize", str(weights), "-f", "q8_0", "-o", str(tmp_path / "o.gguf")])
    assert isinstance(result.exception, FileFormatError) and "No space left on device" in str(result.exception)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.safetensors"]


def test_an_impossible_format_is_refused(weights: Path, tmp_path: Path) -> None:
    result = run.invoke(root, ["quantize", str(weights), "-f", "posit8", "-o", str(tmp_path / "o.gguf")])
    assert isinstance(result.exception, UnsupportedError) and not (tmp_path / "o.gguf").exists()


def test_error_reports_every_format_and_total(weights: Path) -> None:
    arguments = ["formats", "error", str(weights), "-f", "q4_k", "-f", "posit8", "--json"]
    report = json.loads(run.invoke(root, arguments).stdout)
    assert [row["format"] for row in report["tensors"]] == ["q4_k", "posit8"]
    assert report["total"]["posit8"]["sqnr_db"] > report["total"]["q4_k"]["sqnr_db"] > 20
    assert "a.weight" in run.invoke(root, arguments[:-1]).stdout


def test_list_names_formats_with_their_bits() -> None:
    rows = {row["name"]: row for row in json.loads(run.invoke(root, ["formats", "list", "--json"]).stdout)}
    assert rows["q4_k"]["bits"] == 4.5 and rows["q4_k"]["gguf"] == "Q4_K" and not rows["iq2_xs"]["encodes"]
