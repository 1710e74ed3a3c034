"""Q4_K on the mesh: products, a layer and decoding against ggml's own reader of the blocks, and what packing costs and saves."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest

from waferline.cli import run
from waferline.errors import UnsupportedError
from waferline.formats.codec import encode
from waferline.machines.mesh import load_parameters
from waferline.simulate.mesh.gemm import simulate_gemm
from waferline.simulate.mesh.gemm.data import multiply_on_mesh, random_operands
from waferline.simulate.mesh.operators import matrix_product
from waferline.simulate.mesh.weights import weight_format

WSE3 = load_parameters("wse3-notebook")


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (4, 2)])
def test_the_product_is_that_of_the_weights_as_ggml_reads_them(grid: tuple[int, int]) -> None:
    a, b = random_operands(8, 1000, 24, "fp32")
    filled = np.zeros((24, 1024), np.float32)
    filled[:, :1000] = b.T
    blocks = np.asarray(encode(filled, "q4_k")).reshape(24, -1)
    theirs = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q4_K)[:, :1000].T
    form = weight_format("q4_k")
    product = multiply_on_mesh(a, form.stored(b), *grid, number_format="fp32", block=form.block)
    assert np.allclose(product, a.astype(float) @ theirs, atol=1e-5)


# The six entry points of Inference-X's published Q4_K kernels, as commands: plain, batched, weights that stay, the shape of a
# 7B model's projection, a layer, and decoding alone.
@pytest.mark.parametrize(
    "line",
    [
        "gemm 32x1024x64 --grid 4x4 --weights q4_k",
        "gemm 32x512x64 --grid 4x2 --weights q4_k",
        "gemv 1024x64 --grid 4x4 --weights q4_k --batch 8",
        "gemv 4096x4096 --grid 128x16 --weights q4_k",
        "dequantise 1024x64 --grid 4x4 --weights q4_k",
    ],
)
def test_each_entry_point_is_a_command_with_checked_numbers(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "mesh", *line.split(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["max_abs_error"] <= told["tolerance"]
    assert told["weights"] == "q4_k"


def test_a_layer_keeps_its_matrices_packed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "mesh", "forward", "llama-2-7b", "--grid", "4x4", "--weights", "q4_k", "--json"]) == 0
    packed = json.loads(capsys.readouterr().out)
    assert packed["passes"]
    assert packed["weights"] == "q4_k"


def test_packing_saves_words_and_memory_and_costs_decoding() -> None:
    plain, packed = (
        simulate_gemm(matrix_product(64, 4096, 512, weights=w), WSE3, 16, 16, data=False, fidelity="closed")
        for w in (None, "q4_k")
    )
    assert packed.memory_bytes["B blocks"] == pytest.approx(
        plain.memory_bytes["B blocks"] * 4.5 / 16
    )  # 144 bytes a block
    assert packed.hop_words < plain.hop_words
    assert packed.compute_cycles > plain.compute_cycles
    assert packed.communication_cycles <= plain.communication_cycles
    for wrong in ({"algorithm": "gemm-t"}, {"fidelity": "event"}):
        with pytest.raises(UnsupportedError, match="q4_k"):
            simulate_gemm(matrix_product(64, 512, 64, weights="q4_k"), WSE3, 4, 4, data=False, **wrong)
