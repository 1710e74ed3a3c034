"""The door to the codecs: what it refuses and how it says so, and laws that hold for every format."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import InvalidInputError, UnknownNameError, UnsupportedError
from waferline.formats import get_format
from waferline.formats.codec import (
    CHUNK_WEIGHTS,
    codec_for,
    codecs,
    decode,
    decode_chunks,
    encode,
    roundtrip,
    row_bytes,
    tensor_scale_for,
)

ENCODABLE = [name for name, codec in codecs().items() if codec.encode_rows]
SCALED = [name for name in ENCODABLE if codecs()[name].tensor_scale != "none"]


def weights(rows: int = 3, cols: int = 512, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((rows, cols)) * 0.05).astype(np.float32)


@pytest.mark.parametrize("name", ENCODABLE)
def test_shape_bytes_and_dtype(name: str) -> None:
    x = weights().reshape(3, 1, 512)
    scale = tensor_scale_for(x, name) if name in SCALED else None
    data = encode(x, name, tensor_scale=scale)
    assert data.dtype == np.uint8 and data.shape == (3, 1, row_bytes(name, 512))
    back = decode(data, name, x.shape, tensor_scale=scale)
    assert back.dtype == np.float32 and back.shape == x.shape


@pytest.mark.parametrize("name", ENCODABLE)
def test_zeros_survive_and_signs_mirror(name: str) -> None:
    assert not roundtrip(np.zeros((2, 512)), name).any()
    flipped = -roundtrip(-weights(), name)
    # formats with one more negative code than positive ones are not symmetric; all others mirror exactly
    if codecs()[name].name in (
        "fp32",
        "fp16",
        "bf16",
        "fp8",
        "fp8_e5m2",
        "fp4_e2m1",
        "mxfp4",
        "nvfp4",
        "int8",
        "posit8",
    ):
        assert np.array_equal(flipped, roundtrip(weights(), name))


@pytest.mark.parametrize(
    "name", ["fp32", "fp16", "bf16", "fp8", "fp8_e5m2", "posit8", "mxfp8", "mxfp4", "int8_tensor", "ternary"]
)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_was_decoded_encodes_to_the_same_values(name: str, seed: int) -> None:
    x = weights(seed=seed)
    scale = 0.001 if name in SCALED else None
    once = decode(encode(x, name, tensor_scale=scale), name, x.shape, tensor_scale=scale)
    again = decode(encode(once, name, tensor_scale=scale), name, x.shape, tensor_scale=scale)
    assert np.array_equal(once, again)


@pytest.mark.parametrize("name", [n for n in ENCODABLE if codecs()[n].block > 1])
def test_rows_that_are_not_whole_blocks_are_refused(name: str) -> None:
    cols = codecs()[name].block + 1
    with pytest.raises(InvalidInputError, match=f"rows of {cols} weights are not whole"):
        encode(np.zeros((1, cols)), name)


@pytest.mark.parametrize("name", ENCODABLE)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_values_come_back_or_are_refused_with_their_place(name: str, value: float) -> None:
    x = weights()
    x[1, 5] = value
    scale = 1.0 if name in SCALED else None
    policy = codecs()[name].non_finite
    if policy == "kept" or (policy == "nan" and np.isnan(value)):
        back = decode(encode(x, name, tensor_scale=scale), name, x.shape, tensor_scale=scale)
        assert np.array_equal(back[1, 5], np.float32(value), equal_nan=True) and np.isfinite(np.delete(back, 517)).all()
    else:
        with pytest.raises(InvalidInputError, match=r"at \(1, 5\) cannot be stored"):
            encode(x, name, tensor_scale=scale)


@pytest.mark.parametrize("name", [n for n in ENCODABLE if codecs()[n].max_abs < 1e30])
def test_the_largest_magnitude_encodes_and_beyond_it_is_refused(name: str) -> None:
    top = np.float32(codecs()[name].max_abs)
    x = np.full((1, 256), top, np.float32)
    x[0, ::2] *= -1
    if name in ("q4_1", "q5_1", "q2_k", "q4_k", "q5_k", "int4", "int3", "int2", "int4_g32_asym", "int4_g64_asym"):
        x = np.abs(x)  # spans twice the range otherwise; still finite below
    assert np.isfinite(roundtrip(x, name)).all()
    x[0, 7] = np.nextafter(top, np.float32(np.inf))
    with pytest.raises(InvalidInputError, match=r"\(0, 7\)"):
        encode(x, name)


def test_large_tensors_are_done_in_pieces_with_the_same_result() -> None:
    cols = 4096
    rows = CHUNK_WEIGHTS // cols + 3
    x = weights(rows, cols)
    data = encode(x, "q4_0")
    pieces = list(decode_chunks(data, "q4_0", x.shape))
    assert len(pieces) == 2 and max(v.size for _, v in pieces) <= CHUNK_WEIGHTS
    assert np.array_equal(np.concatenate([v for _, v in pieces]), decode(data, "q4_0", x.shape))
    assert np.array_equal(data[-1], encode(x[-1], "q4_0"))


@pytest.mark.parametrize("name", ["int8_tensor", "nvfp4", "ternary"])
def test_a_missing_tensor_scale_is_an_error(name: str) -> None:
    with pytest.raises(InvalidInputError, match="needs a tensor scale"):
        encode(weights(), name)


def test_other_refusals_name_what_is_wrong() -> None:
    with pytest.raises(InvalidInputError, match="has no tensor scale"):
        encode(weights(), "q4_0", tensor_scale=2.0)
    with pytest.raises(InvalidInputError, match="positive and finite"):
        encode(weights(), "fp8", tensor_scale=0.0)
    with pytest.raises(InvalidInputError, match="288 bytes in q4_0, and 10 were given"):
        decode(np.zeros(10, np.uint8), "q4_0", (1, 512))
    with pytest.raises(UnknownNameError, match="did you mean q4_k"):
        codec_for("q4_kk")
    with pytest.raises(UnsupportedError, match="mixture"):
        codec_for("q4_k_m")
    with pytest.raises(UnsupportedError, match="decoded, not encoded"):
        encode(weights(), "iq2_xs")
    with pytest.raises(InvalidInputError, match="real numbers"):
        encode(np.zeros((1, 32), complex), "q4_0")


def test_names_aliases_and_records_lead_to_one_codec() -> None:
    assert codec_for("FP8-E4M3") is codec_for(get_format("fp8")) is codec_for("e4m3")
    assert codec_for("w4a16") is codec_for("awq") is codec_for("int4")


def test_the_mean_sets_the_ternary_scale_and_the_largest_the_others() -> None:
    x = weights()
    assert tensor_scale_for(x, "ternary") == pytest.approx(np.abs(x).mean())
    assert tensor_scale_for(x, "fp8") == pytest.approx(np.abs(x).max() / 448)
    assert tensor_scale_for(x, "q4_k") == 1.0


@pytest.mark.parametrize(
    ("bits", "name"), [(2, "int2"), (3, "int3"), (4, "int4"), (4, "int4_g32_asym"), (4, "int4_g64_sym"), (8, "int8")]
)
def test_integer_formats_are_off_by_at_most_half_a_step(bits: int, name: str) -> None:
    x = weights(4, 1024)
    group = {"int8": 1024, "int4_g32_asym": 32, "int4_g64_sym": 64}.get(name, 128)
    y = x.reshape(4, -1, group)
    if (name.endswith("sym") and not name.endswith("asym")) or name == "int8":
        step = np.abs(y).max(-1) / (2 ** (bits - 1) - 1)
    else:
        step = (np.maximum(y.max(-1), 0) - np.minimum(y.min(-1), 0)) / (2**bits - 1)
    gap = np.abs(roundtrip(x, name) - x).reshape(y.shape).max(-1)
    # half a step, half a step more where the rounded zero point clips the range, and the half-precision scale
    slack = 0.501 if name in ("int8", "int4_g64_sym") else 1.002
    assert np.all(gap <= slack * step + 1e-3 * np.abs(y).max(-1))
