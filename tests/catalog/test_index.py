"""The compiled index of packaged facts: always in step, wherever a file was put, changed or taken away; never required."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from waferline.catalog import ROOT
from waferline.catalog.yaml_file import packaged_names, read_packaged
from waferline.errors import FileFormatError

HARDWARE = """
name: test-npu
title: Test NPU
vendor: Test
kind: npu
architecture: systolic
year: 2026
group: Edge
units: 4
clock_hz: 1e9
peak_flops: {bf16: 4e12}
memory: [{name: DRAM, capacity_bytes: 16e9, bandwidth_bytes_per_s: 100e9}]
citations: [{title: data sheet, url: "https://example.org", date: 2026-01-02, covers: [units, peak_flops, memory]}]
"""
MODEL = """
name: test-model
title: Test Model 1B
sources: [{title: card, url: "https://example.org", date: 2026-01-02}]
transformer:
  hidden_size: 64
  vocab_size: 100
  blocks: [{count: 2, attention: {heads: 4, kv_heads: 4, head_dim: 16}, ffn: {intermediate: 128}}]
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of the package to change, as an editable install would be."""
    folder = tmp_path / "src" / "waferline"
    shutil.copytree(ROOT.parent, folder, ignore=shutil.ignore_patterns("__pycache__", "evidence", "facts.index*"))
    return folder


def python(copy, script):
    environment = os.environ | {"PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    return run.stdout.strip() or run.stderr.strip().rpartition("\n")[2]


BANDWIDTH = "from waferline.machines.hardware import load_hardware as l; print(l('Test NPU').bandwidth_bytes_per_s)"


def test_a_file_is_found_changed_and_gone_without_a_build(copy):
    assert "unknown hardware" in python(copy, BANDWIDTH)
    assert (copy / "catalog" / "facts.index").is_file()
    mine = copy / "catalog" / "hardware" / "test-npu.yaml"
    mine.write_text(HARDWARE)
    assert python(copy, BANDWIDTH) == python(copy, BANDWIDTH) == "100000000000.0"
    status = mine.stat()
    mine.write_text(HARDWARE.replace("100e9", "200e9"))  # the same size
    os.utime(mine, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert python(copy, BANDWIDTH) == "200000000000.0"
    mine.unlink()
    assert "unknown hardware" in python(copy, BANDWIDTH)


def test_a_model_is_found_too(copy):
    (copy / "catalog" / "models" / "test-model.yaml").write_text(MODEL)
    script = "from waferline.workloads.load import load_model as l; print(l('test model 1b').name)"
    assert python(copy, script) == "test-model"


def test_a_warm_index_needs_no_parser_and_a_broken_one_is_written_again(copy):
    script = BANDWIDTH.replace("Test NPU", "h100") + "; import sys; print('yaml' in sys.modules)"
    assert python(copy, script).endswith("True") and python(copy, script).endswith("False")
    index = copy / "catalog" / "facts.index"
    for text in ("", "nonsense\n", "a\tb\n", "\xff"):
        index.write_text(text, encoding="latin-1")
        assert python(copy, script).endswith("True") and python(copy, script).endswith("False")


def test_a_folder_that_may_not_be_written_is_read(copy, monkeypatch):
    blocked = copy / "catalog" / "facts.index"
    blocked.mkdir()  # neither readable nor replaceable, for root as well
    assert python(copy, BANDWIDTH.replace("Test NPU", "h100")) == "3350000000000.0"
    assert blocked.is_dir()


def test_a_shipped_index_is_taken_as_it_is_until_a_file_changes(copy):
    script = BANDWIDTH.replace("Test NPU", "h100") + "; import sys; print('yaml' in sys.modules)"
    ship = "from waferline.catalog.index import ship; ship()"
    python(copy, ship)
    index = copy / "catalog" / "facts.index"
    shipped = index.read_bytes()
    for path in (copy / "catalog").rglob("*.yaml"):  # as an installer leaves them: new times
        path.touch()
    assert python(copy, script).endswith("False") and index.read_bytes() == shipped
    h100 = copy / "catalog" / "hardware" / "nvidia-h100-sxm-80gb.yaml"
    h100.write_text(h100.read_text().replace("3.35e12", "3.36e12").replace("3350e9", "3360e9"))
    later = index.stat().st_mtime_ns + 120 * 10**9
    os.utime(h100, ns=(later, later))
    assert "3360000000000.0" in python(copy, script)


def test_a_packaged_file_that_is_wrong_says_so_in_one_line(copy):
    mine = copy / "catalog" / "hardware" / "test-npu.yaml"
    mine.write_text(HARDWARE.replace("clock_hz: 1e9", "clock: 1e9"))
    assert "unknown key 'clock' (and 1 more) (did you mean clock_hz?)" in python(copy, BANDWIDTH)
    mine.write_text(HARDWARE.replace("100e9", "-100e9"))
    assert "bandwidth_bytes_per_s" in python(copy, BANDWIDTH)
    mine.write_text(HARDWARE + "name: again\n")
    assert "key 'name' is given twice" in python(copy, BANDWIDTH)


def test_the_index_holds_what_the_files_say():
    """Every file read as YAML by another loader, dates as text and `5e6` as a number."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted(ROOT.rglob("*.yaml")):
        name = path.relative_to(ROOT).as_posix()
        ours, theirs = read_packaged(name), yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
        assert plain(ours) == plain(json.loads(json.dumps(theirs, default=str))), name


def plain(data):
    """Numbers that YAML 1.1 reads as text (`5e6`) as numbers, on both sides."""
    if isinstance(data, dict):
        return {key: plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [plain(value) for value in data]
    try:
        return float(data) if not isinstance(data, bool | None) else data
    except ValueError:
        return data


def test_names_and_files_that_are_not_there():
    assert "llama-3-8b" in packaged_names("models") and "engines" in packaged_names("")
    with pytest.raises(FileFormatError, match=r"nothing\.yaml: no such packaged facts"):
        read_packaged("nothing.yaml")


def test_the_wheel_ships_the_index():
    hook = Path(__file__).parents[2] / "hatch_build.py"
    assert "waferline.catalog.index" in hook.read_text(encoding="utf-8")
