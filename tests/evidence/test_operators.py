"""Operator tables: a table written from the product's own times is found exact, and a table out of shape is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from waferline.cli import run
from waferline.evidence.folder import evidence_folder
from waferline.evidence.operators import TABLES, check_operators
from waferline.machines.hardware import load_hardware

PEAK = load_hardware("h100").peak("bf16")


def _gemm(folder: Path, times: str) -> None:
    (folder / "h100_gemm.csv").write_text(f"dtype,m,n,k,latency_ms\n{times}")


def test_a_large_product_takes_longer_than_light_and_shows_its_error(tmp_path: Path) -> None:
    light_ms = 2 * 8192**3 / PEAK * 1e3
    _gemm(tmp_path, f"bfloat16,8192,8192,8192,{light_ms / 0.7}\nbfloat16,8192,8192,8192,{light_ms / 2}\n")
    (found,) = check_operators(tmp_path)
    assert (found.machine, found.operator, found.engine, found.rows) == ("nvidia-h100-sxm-80gb", "gemm", "vllm", 2)
    assert found.faster_than_light == 1
    assert found.median_error < 1.0


def test_a_table_of_a_measured_machine_is_held_against_that_machine(tmp_path: Path) -> None:
    (tmp_path / "rtxpro6000_gemm.csv").write_text("dtype,m,n,k,latency_ms\nbfloat16,4096,4096,4096,0.4\n")
    (found,) = check_operators(tmp_path)
    assert (found.machine, found.tier) == ("nvidia-rtx-pro-6000-server", "calibrated")


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_every_kind_of_shared_table_is_read(kind: str) -> None:
    folder = evidence_folder()
    tables = folder.parent / "silicon" if folder else None
    if tables is None or not tables.is_dir():
        pytest.skip("the folder of published measurements is not here")
    found = [f for path in sorted(tables.glob(f"h200_{kind}.csv.gz")) for f in check_operators(path)]
    assert found
    known = [f for f in found if not f.refused and not (f.operator == "moe" and f.format == "fp8")]
    assert all(f.median_error < 0.25 for f in known)  # fitted on these machines; a wrong reading is off by factors


def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evidence", "operators", str(tmp_path)]) == 2
    assert "holds no operator tables" in capsys.readouterr().err
    _gemm(tmp_path, "bfloat16,16,many,16,0.1\n")
    assert run(["evidence", "operators", str(tmp_path)]) == 2
    assert "line 2: n is not a number: 'many'" in capsys.readouterr().err
    _gemm(tmp_path, "bfloat17,16,16,16,0.1\n")
    assert run(["evidence", "operators", str(tmp_path)]) == 2
    assert "bfloat16" in capsys.readouterr().err
    _gemm(tmp_path, "bfloat16,16,16,16,0.01\n")
    assert run(["evidence", "operators", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["rows"] == 1


def test_a_kernel_with_constants_of_its_own_is_held_against_them(tmp_path: Path) -> None:
    head = "dtype,kernel,distribution,tokens,hidden,inter,topk,experts,tp,ep,latency_ms"
    row = "nvfp4,{kernel},balanced,16,7168,2048,8,256,1,8,0.2"
    bias = {}
    for kernel in ("moe_torch_flow_cutlass", "moe_torch_flow_min_latency", "moe_torch_flow_of_tomorrow"):
        (tmp_path / "b200_moe_trtllm.csv").write_text(f"{head}\n{row.format(kernel=kernel)}\n")
        (found,) = check_operators(tmp_path)
        assert (found.engine, found.tier) == ("trtllm", "calibrated")
        bias[kernel] = found.bias
    usual, latency, unknown = bias.values()
    assert latency != usual and unknown == usual
