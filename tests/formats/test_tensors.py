"""Tensor files: read as their peers write them, rewritten whole or not at all, damaged ones refused cheaply."""

import json
import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError, WaferlineError
from waferline.formats.codec import decode, encode
from waferline.formats.codecs.floats import E4M3
from waferline.formats.convert import convert, plan
from waferline.formats.open_file import open_tensors
from waferline.formats.reconstruction import error_of

RNG = np.random.default_rng(5)
MATRIX = (RNG.standard_normal((6, 512)) * 0.02).astype(np.float32)
NORM = np.linspace(0.5, 1.5, 512).astype(np.float32)


def safetensors_bytes(
    tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None
) -> bytes:
    """A file written straight from the specification."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    tensors = {
        "layer.weight": ("F32", [6, 512], MATRIX.tobytes()),
        "norm.weight": ("F32", [512], NORM.tobytes()),
        "odd.weight": ("F16", [2, 100], np.ones((2, 100), np.float16).tobytes()),
        "ids": ("I64", [3], np.arange(3).tobytes()),
        "empty": ("F32", [0, 512], b""),
    }
    path.write_bytes(safetensors_bytes(tensors, {"author": "someone"}))
    return path


def write_gguf(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "a", "ü"])
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.5])
    writer.add_bool("flag", True)
    writer.add_tensor("blk.0.weight", MATRIX)
    q8 = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("blk.1.weight", gguf.quants.quantize(MATRIX, q8), raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_safetensors_are_read_with_metadata_and_every_dtype(weights: Path) -> None:
    file = open_tensors(weights)
    assert file.metadata == {"author": "someone"} and len(file.tensors) == 5
    assert np.array_equal(file.read(file["layer.weight"]), MATRIX)
    assert file.read(file["ids"]).tolist() == [0, 1, 2] and file.read(file["empty"]).shape == (0, 512)
    assert not file["ids"].is_float and file["odd.weight"].format == "fp16"


def test_gguf_is_read_as_its_own_package_reads_it(tmp_path: Path) -> None:
    file = open_tensors(write_gguf(tmp_path / "m.gguf"))
    reader = gguf.GGUFReader(file.path)
    for theirs in reader.tensors:
        ours = file[theirs.name]
        assert ours.offset == theirs.data_offset and ours.nbytes == theirs.n_bytes
        expected = gguf.quants.dequantize(theirs.data, theirs.tensor_type)
        assert np.array_equal(file.read(ours), expected.reshape(ours.shape))
    assert file.metadata["tokenizer.ggml.tokens"].value == ["<s>", "a", "ü"]
    assert file.metadata["llama.block_count"].value == 2 and file.metadata["flag"].value is True


@pytest.mark.parametrize("name", ["q4_k", "q8_0", "mxfp4", "tq2_0", "iq4_xs", "bf16"])
def test_conversion_is_what_gguf_reads(weights: Path, tmp_path: Path, name: str) -> None:
    file, out = open_tensors(weights), tmp_path / "o.gguf"
    file = type(file)(file.path, file.kind, tuple(t for t in file.tensors if t.name != "empty"), file.metadata)
    errors = convert(file, plan(file, name, ".gguf"), out)
    read = {t.name: t for t in gguf.GGUFReader(out).tensors}
    back = gguf.quants.dequantize(read["layer.weight"].data, read["layer.weight"].tensor_type)
    assert read["layer.weight"].tensor_type.name == name.upper()
    error = np.linalg.norm(back - MATRIX) / np.linalg.norm(MATRIX)
    assert errors["layer.weight"].relative_l2 == pytest.approx(error, rel=1e-5)
    assert read["norm.weight"].tensor_type.name == "F32" and np.array_equal(read["norm.weight"].data, NORM)
    assert read["ids"].data.tolist() == [0, 1, 2]
    assert read["odd.weight"].tensor_type.name == ("BF16" if name == "bf16" else "F16")


def test_metadata_is_carried_from_gguf_to_gguf(tmp_path: Path) -> None:
    file = open_tensors(write_gguf(tmp_path / "m.gguf"))
    convert(file, plan(file, "q4_0", ".gguf"), tmp_path / "o.gguf")
    again = open_tensors(tmp_path / "o.gguf")
    kept = {k: v for k, v in again.metadata.items() if k != "general.quantization_version"}
    assert kept == dict(file.metadata)


@pytest.mark.parametrize(("name", "suffix"), [("fp8", ".safetensors"), ("nvfp4", ".gguf")])
def test_tensor_scales_are_written_beside_and_applied_on_reading(
    weights: Path, tmp_path: Path, name: str, suffix: str
) -> None:
    file, out = open_tensors(weights), tmp_path / f"o{suffix}"
    file = type(file)(file.path, file.kind, tuple(t for t in file.tensors if t.name != "empty"), file.metadata)
    errors = convert(file, plan(file, name, suffix), out)
    again = open_tensors(out)
    scale = again.scale_of(again["layer.weight"])
    assert scale is not None
    back = again.read(again["layer.weight"])
    direct = decode(again.raw(again["layer.weight"]), name, MATRIX.shape, tensor_scale=float(again.read(scale).item()))
    assert np.array_equal(back, direct)
    error = np.linalg.norm(back - MATRIX) / np.linalg.norm(MATRIX)
    assert errors["layer.weight"].relative_l2 == pytest.approx(error, rel=1e-4) and error < 0.11
    third = convert(again, plan(again, "fp32", ".safetensors"), tmp_path / "third.safetensors")
    assert "layer.weight" in third and scale.name not in {
        t.name for t in open_tensors(tmp_path / "third.safetensors").tensors
    }


def test_scales_a_row_apply_and_block_scales_are_refused(tmp_path: Path) -> None:
    codes = E4M3.encode(np.ones((2, 32), np.float32)).tobytes()
    rows = {"w": ("F8_E4M3", [2, 32], codes), "w_scale": ("F32", [2, 1], np.float32([2, 3]).tobytes())}
    path = tmp_path / "rows.safetensors"
    path.write_bytes(safetensors_bytes(rows))
    file = open_tensors(path)
    assert file.read(file["w"])[:, 0].tolist() == [2, 3]
    path.write_bytes(safetensors_bytes({"w": rows["w"], "w_scale_inv": ("F32", [1, 1], np.float32([1]).tobytes())}))
    file = open_tensors(path)
    with pytest.raises(UnsupportedError, match="block scales"):
        file.read(file["w"])


def test_nothing_is_left_when_writing_fails(weights: Path, tmp_path: Path) -> None:
    bad = MATRIX.copy()
    bad[5, 100] = np.nan
    weights.write_bytes(
        safetensors_bytes({"a": ("F32", [6, 512], MATRIX.tobytes()), "b": ("F32", [6, 512], bad.tobytes())})
    )
    file, out = open_tensors(weights), tmp_path / "o.gguf"
    out.write_bytes(b"precious")
    with pytest.raises(InvalidInputError, match=r"tensor 'b', rows from 0: nan at \(5, 100\)"):
        convert(file, plan(file, "q4_k", ".gguf"), out)
    assert out.read_bytes() == b"precious" and sorted(p.name for p in tmp_path.iterdir()) == ["o.gguf", "w.safetensors"]
    with pytest.raises(FileFormatError, match="output is the input"):
        convert(file, plan(file, "fp16", ".safetensors"), weights)


def test_a_tensor_of_many_pieces_converts_as_one(tmp_path: Path) -> None:
    x = RNG.standard_normal((1100, 2048)).astype(np.float32)  # three pieces
    (tmp_path / "w.safetensors").write_bytes(safetensors_bytes({"a": ("F32", [1100, 2048], x.tobytes())}))
    file = open_tensors(tmp_path / "w.safetensors")
    seen: list[int] = []
    errors = convert(file, plan(file, "q6_k", ".gguf"), tmp_path / "o.gguf", progress=lambda _name, n: seen.append(n))
    again = open_tensors(tmp_path / "o.gguf")
    assert np.array_equal(again.raw(again["a"]), encode(x, "q6_k").ravel())
    assert sum(seen) == x.size and len(seen) == 3
    whole = error_of(x, "q6_k")
    assert errors["a"].relative_l2 == pytest.approx(whole.relative_l2) and errors["a"].max_abs == whole.max_abs


def test_formats_a_file_cannot_hold_are_refused_before_writing(weights: Path) -> None:
    file = open_tensors(weights)
    with pytest.raises(UnsupportedError, match="cannot hold int4"):
        plan(file, "int4", ".gguf")
    with pytest.raises(UnsupportedError, match="decoded, not encoded"):
        plan(file, "iq3_s", ".gguf")
    with pytest.raises(InvalidInputError, match="output is a"):
        plan(file, "q4_k", ".bin")


def header(text: str, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text.encode() + data


def entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> str:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}})


DAMAGED_SAFETENSORS = {
    "empty": (b"", "header too small"),
    "short": (b"\1\2\3", "header too small"),
    "huge header": (header("{}", length=2**62), "header too large"),
    "header past the end": (header("{}", length=3), "invalid header length"),
    "not JSON": (header("{nope}"), "invalid JSON"),
    "not UTF-8": (struct.pack("<Q", 2) + b"\xff\xfe", "invalid UTF-8"),
    "a list": (header("[]"), "invalid type: sequence"),
    "deep": (header("[" * 100_000), "invalid JSON"),
    "deeper": (header('{"a":' * 100_000), "invalid JSON"),
    "twice": (header('{"a":1,"a":2}'), "invalid type: integer"),
    "entry": (header('{"a":3}'), "expected struct TensorInfo"),
    "dtype": (header(entry(dtype="F33"), b"1234"), "F33"),
    "dtype we lack": (header(entry(dtype="F8_E8M0", shape=[4]), b"1234"), "'a' has dtype 'F8_E8M0'"),
    "negative": (header(entry(shape=[-1]), b"1234"), "integer `-1`"),
    "fraction": (header(entry(shape=[0.5]), b"1234"), "floating point `0.5`"),
    "true": (header(entry(shape=[True]), b"1234"), "boolean `true`"),
    "wrong size": (header(entry(shape=[2]), b"12345678"), "invalid shape, data type, or offset"),
    "truncated": (header(entry(), b"123"), "not fully covered"),
    "more than is described": (header(entry(), b"12345678"), "not fully covered"),
    "a gap": (header(entry(offsets=[4, 8]), b"12345678"), "invalid offset for tensor `a`"),
    "overflow": (header(entry(shape=[2**40, 2**40], offsets=[0, 4]), b"1234"), "overflow computing buffer size"),
    "offsets": (header(entry(offsets=[4, 0]), b"1234"), "invalid offset for tensor `a`"),
    "metadata": (header('{"__metadata__": {"a": 1}}'), "expected a string"),
}


@pytest.mark.parametrize("case", DAMAGED_SAFETENSORS)
def test_damaged_safetensors_are_refused_cheaply(tmp_path: Path, case: str) -> None:
    data, message = DAMAGED_SAFETENSORS[case]
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_bytes({}))
    open_tensors(path)  # imports are not part of the cost
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(FileFormatError, match=message) as refusal:
        open_tensors(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert "\n" not in str(refusal.value)


def test_overlapping_tensors_are_refused(tmp_path: Path) -> None:
    both = {n: {"dtype": "F32", "shape": [2], "data_offsets": o} for n, o in (("a", [0, 8]), ("b", [4, 12]))}
    (tmp_path / "x.safetensors").write_bytes(header(json.dumps(both), b"\0" * 12))
    with pytest.raises(FileFormatError, match="invalid offset for tensor `b`"):
        open_tensors(tmp_path / "x.safetensors")


def gguf_head(tensors: int = 0, fields: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, fields) + rest


def key(name: bytes, type_id: int) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", type_id)


DAMAGED_GGUF = {
    "magic only": (b"GGUF", "truncated"),
    "version": (gguf_head(version=77), "version 77"),
    "tensors": (gguf_head(tensors=2**60), "more than the file could hold"),
    "fields": (gguf_head(fields=2**60), "more than the file could hold"),
    "key length": (gguf_head(fields=1, rest=struct.pack("<Q", 2**62) + b"\0" * 16), "more than the file could hold"),
    "array length": (
        gguf_head(fields=1, rest=key(b"a", 9) + struct.pack("<IQ", 4, 2**60)),
        "more than the file could hold",
    ),
    "string array": (
        gguf_head(fields=1, rest=key(b"a", 9) + struct.pack("<IQ", 8, 2**60)),
        "more than the file could hold",
    ),
    "value type": (gguf_head(fields=1, rest=key(b"a", 99) + b"\0" * 8), "value type 99"),
    "nested": (gguf_head(fields=1, rest=key(b"a", 9) + struct.pack("<IQ", 9, 1) * 9), "value type 9"),
    "key text": (gguf_head(fields=1, rest=key(b"\xff", 4) + b"\0" * 8), "not UTF-8"),
    "twice": (gguf_head(fields=2, rest=(key(b"a", 4) + b"\0\0\0\0") * 2), "appears twice"),
    "alignment": (gguf_head(fields=1, rest=key(b"general.alignment", 4) + struct.pack("<I", 3)), "power of two"),
    "dimensions": (
        gguf_head(1, rest=struct.pack("<Q", 1) + b"t" + struct.pack("<I", 99) + b"\0" * 24),
        "99 dimensions",
    ),
    "type": (gguf_head(1, rest=struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 4, 250, 0)), "type 250"),
    "data": (gguf_head(1, rest=struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 2**50, 0, 0)), "needs"),
    "rows": (gguf_head(1, rest=struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 100, 12, 0)), "not whole Q4_K"),
}


@pytest.mark.parametrize("case", DAMAGED_GGUF)
def test_damaged_gguf_is_refused_cheaply(tmp_path: Path, case: str) -> None:
    data, message = DAMAGED_GGUF[case]
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    open_tensors(write_gguf(tmp_path / "fine.gguf"))  # imports are not part of the cost
    tracemalloc.start()
    with pytest.raises(FileFormatError, match=message):
        open_tensors(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["gguf", "safetensors"]))
def test_flipped_and_cut_files_read_or_are_refused(
    tmp_path: Path, weights: Path, data: st.DataObject, kind: str
) -> None:
    original = tmp_path / "m.gguf"
    if not original.exists():
        write_gguf(original)
    good = original.read_bytes() if kind == "gguf" else weights.read_bytes()
    damaged = bytearray(good[: data.draw(st.integers(0, len(good)))] if data.draw(st.booleans()) else good)
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, min(len(damaged), 400) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"x.{kind}"
    path.write_bytes(bytes(damaged))
    try:
        file = open_tensors(path)
        for tensor in file.tensors:
            if tensor.weights < 100_000:
                with np.errstate(all="ignore"):
                    file.read(tensor)
    except WaferlineError:
        pass  # refused with a deliberate error; anything else fails the test


def test_missing_files_and_big_endian_ones(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="No such file"):
        open_tensors(tmp_path / "none.gguf")
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    with pytest.raises(UnsupportedError, match="big-endian"):
        open_tensors(tmp_path / "x.gguf")
