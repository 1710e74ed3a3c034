"""Every type that ggml and ik_llama.cpp write into files: bytes of a matrix, its format by name, and a refusal by name."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import pytest
from tests.workloads.test_gguf_files import write

from waferline.errors import FileFormatError
from waferline.formats import format_names, get_format
from waferline.formats.gguf_header import BESIDE, GONE
from waferline.formats.gguf_set import open_set
from waferline.workloads.load import load_model

H, MATRIX = 256, "blk.0.ffn_up.weight"
_NAMES = {"attn_norm": (H,), "ffn_norm": (H,)} | dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (H, H))
_NAMES |= dict.fromkeys(("ffn_gate", "ffn_up", "ffn_down"), (H, H))
SHAPES = {f"blk.0.{name}.weight": shape for name, shape in _NAMES.items()}
SHAPES |= {"token_embd.weight": (32, H), "output_norm.weight": (H,), "output.weight": (32, H)}
KEYS = {
    "block_count": 1,
    "embedding_length": H,
    "context_length": 512,
    "attention.head_count": 4,
    "feed_forward_length": H,
}
_NO_WEIGHTS = ("I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K")  # of indices, and of activations in memory
WRITTEN = {t.value: t.name for t in gguf.GGMLQuantizationType if t.name not in _NO_WEIGHTS}
# Bytes of 256 x 256 weights by hand: super-blocks of 256, and what a row has beside them.
BY_HAND = {
    12: 144,
    14: 210,
    29: 56,
    34: 54,
    35: 66,
    39: 8 * 17,
    139: 144,
    144: 136 + 4,
    156: 102 + 2,
    133: 8 * 26,
    41: 36,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = write(tmp_path_factory.mktemp("types") / "m.gguf", SHAPES, **{f"llama__{k}": v for k, v in KEYS.items()})
    return path.read_bytes()


def of_type(path: Path, whole: bytes, type_id: int) -> Path:
    """The same file with one matrix said to be of another type; 16-bit data is long enough for all but 32 bits."""
    at = whole.index(MATRIX.encode()) + len(MATRIX) + 4 + 2 * 8
    path.write_bytes(whole[:at] + struct.pack("<I", type_id) + whole[at + 4 :] + bytes(4 * H * H))
    return path


@pytest.mark.parametrize("type_id", sorted({**WRITTEN, **{n: row[0] for n, row in BESIDE.items()}}))
def test_a_matrix_of_every_type_has_its_bytes_and_its_format(tmp_path: Path, whole: bytes, type_id: int) -> None:
    path = of_type(tmp_path / "m.gguf", whole, type_id)
    (tensor,) = (t for t in open_set(path).tensors if t.name == MATRIX)
    assert tensor.format in format_names()
    beside = BESIDE[type_id][3] * H if type_id in BESIDE else 0
    assert tensor.nbytes == get_format(tensor.format).bytes_per_element * H * H + beside
    if type_id in BY_HAND:
        assert tensor.nbytes == BY_HAND[type_id] * H
    assert load_model(path).blocks[0].formats


@pytest.mark.parametrize("type_id", [*GONE, 255])
def test_a_type_that_no_file_has_any_more_is_refused_by_name(tmp_path: Path, whole: bytes, type_id: int) -> None:
    said = GONE.get(type_id, "255, which is unknown").split(" ")[0]
    with pytest.raises(FileFormatError, match=rf"{MATRIX}' has type {said}"):
        open_set(of_type(tmp_path / "m.gguf", whole, type_id))
