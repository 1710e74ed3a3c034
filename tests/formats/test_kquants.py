"""K-quant and IQ4 encoders: as good as ggml's, read back the same by `gguf`, sound on hard blocks."""

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.formats.codec import decode, encode, roundtrip
from waferline.formats.codecs.kquants import pack_scales_6bit, unpack_scales_6bit
from waferline.formats.reconstruction import compare

# relative L2 error of ggml's own reference quantisers (quantize_row_*_ref, ggml 0.25) on 8 M weights of N(0, 0.02)
GGML_ERROR = {
    "q2_k": 0.2966, "q3_k": 0.1509, "q4_k": 0.0714, "q5_k": 0.0361, "q6_k": 0.01776, "iq4_nl": 0.0787, "iq4_xs": 0.0767,
}  # fmt: skip


def gaussian(rows: int = 64, cols: int = 4096) -> np.ndarray:
    return (np.random.default_rng(11).standard_normal((rows, cols)) * 0.02).astype(np.float32)


@pytest.mark.parametrize("name", GGML_ERROR)
def test_error_is_within_three_percent_of_ggmls_and_gguf_reads_the_same(name: str) -> None:
    x = gaussian()
    data = encode(x, name)
    theirs = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name.upper()])
    assert np.array_equal(decode(data, name, x.shape), theirs)
    assert compare(x, theirs).relative_l2 <= 1.03 * GGML_ERROR[name]


@pytest.mark.parametrize("name", GGML_ERROR)
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31), kind=st.sampled_from(["outlier", "constant", "ramp", "sparse", "positive", "negative"])
)
def test_hard_blocks_stay_finite_and_bounded(name: str, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1, 256)).astype(np.float32)
    if kind == "outlier":
        x[0, rng.integers(256)] = 1000.0
    elif kind == "constant":
        x[:] = rng.standard_normal()
    elif kind == "ramp":
        x[0] = np.linspace(-1, 3, 256)
    elif kind == "sparse":
        x[rng.random(x.shape) < 0.95] = 0
    else:
        x = np.abs(x) * (1 if kind == "positive" else -1)
    y = roundtrip(x, name)
    assert np.isfinite(y).all()
    worst = {"q2_k": 1.0, "q3_k": 1.0}.get(name, 0.6)  # no weight may move by more than this share of the largest
    assert np.abs(y - x).max() <= worst * np.abs(x).max()


@pytest.mark.parametrize("name", GGML_ERROR)
def test_zeros_decode_to_zeros_also_beside_other_blocks(name: str) -> None:
    x = np.zeros((2, 512), np.float32)
    x[1, 256:] = 1.0
    y = roundtrip(x, name)
    assert not y[0].any() and not y[1, :256].any() and y[1, 256:] == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("name", GGML_ERROR)
def test_tiny_and_large_magnitudes(name: str) -> None:
    x = gaussian(1, 256)
    for scale in (1e-30, 2.0**20):
        y = roundtrip(x * np.float32(scale), name)
        assert np.isfinite(y).all()
    assert compare(x * 2**20, y).relative_l2 < 1.1 * compare(x, roundtrip(x, name)).relative_l2


def test_encoding_is_row_by_row() -> None:
    x = gaussian(5, 512)
    whole = encode(x, "q4_k")
    assert all(np.array_equal(whole[i], encode(x[i], "q4_k")) for i in range(5))


def test_six_bit_scales_survive_packing() -> None:
    rng = np.random.default_rng(0)
    scale, minimum = (rng.integers(0, 64, (100, 8), dtype=np.uint8) for _ in range(2))
    again = unpack_scales_6bit(pack_scales_6bit(scale, minimum))
    assert np.array_equal(again[0], scale) and np.array_equal(again[1], minimum)


def misread_q4_k(block: np.ndarray) -> np.ndarray:
    """One Q4_K block read the way a published wafer kernel does: scales as consecutive 6-bit fields in (s, s, m, m)
    groups less 32, minima added, neighbouring weights in one byte. d and dmin are granted."""
    d, dmin = block[:4].view(np.float16).astype(np.float32)
    bits = np.unpackbits(block[4:16], bitorder="little").reshape(16, 6)
    fields = (bits << np.arange(6, dtype=np.uint8)).sum(axis=1)
    scale = fields.reshape(4, 4)[:, :2].reshape(8).astype(np.float32) - 32
    minimum = fields.reshape(4, 4)[:, 2:].reshape(8).astype(np.float32)
    q = np.stack([block[16:] & 15, block[16:] >> 4], axis=1).reshape(8, 32)
    return (d * scale[:, None] * q + dmin * minimum[:, None]).reshape(256)


def test_a_decoder_with_the_wrong_layout_is_told_apart() -> None:
    x = gaussian(1, 256 * 64)
    data = encode(x, "q4_k").reshape(-1, 144)
    wrong = np.concatenate([misread_q4_k(block) for block in data])
    right = decode(data.reshape(1, -1), "q4_k", x.shape)[0]
    assert abs(np.corrcoef(wrong, x[0])[0, 1]) < 0.1
    assert np.corrcoef(right, x[0])[0, 1] > 0.99
