"""Our codecs against the `gguf` package: the same values from any bytes, the same bytes from any weights."""

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.formats.codec import codecs, decode, encode

GGUF_TYPES = [t for t in gguf.GGMLQuantizationType if t.name in {c.ggml for c in codecs().values()}]
BY_GGML = {c.ggml: c for c in codecs().values() if c.ggml}
QUANTISED_BY_GGUF = ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4")


def same_floats(a: np.ndarray, b: np.ndarray) -> bool:
    """Bit for bit, any NaN equal to any other."""
    return bool(np.all((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))))


def test_every_type_gguf_can_dequantise_has_a_codec() -> None:
    supported = {t.name for t in gguf.quants._type_traits} | {"F32", "F16"}
    assert supported == set(BY_GGML)


@pytest.mark.parametrize("ggml_type", GGUF_TYPES, ids=lambda t: t.name)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_any_bytes_decode_to_the_reference_values(ggml_type: gguf.GGMLQuantizationType) -> None:
    codec = BY_GGML[ggml_type.name]
    data = np.random.default_rng(7).integers(0, 256, (128, codec.row_bytes(1024)), dtype=np.uint8)
    ours = decode(data, codec.name, (128, 1024), tensor_scale=1.0)
    reference = np.asarray(gguf.quants.dequantize(data, ggml_type), np.float32)
    assert same_floats(ours, reference)


@pytest.mark.parametrize("name", QUANTISED_BY_GGUF)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), log_size=st.integers(-20, 10), tails=st.booleans())
def test_weights_encode_to_the_reference_bytes(name: str, seed: int, log_size: int, tails: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, (4, 768)) if tails else rng.standard_normal((4, 768))
    x[1, :256] = 0
    x[2, ::7] = 0
    x = (np.clip(x, -60, 60) * 2.0**log_size).astype(np.float32)
    reference = gguf.quants.quantize(x, gguf.GGMLQuantizationType[name]).view(np.uint8)
    assert np.array_equal(encode(x, BY_GGML[name].name), reference)


@pytest.mark.parametrize("name", QUANTISED_BY_GGUF)
def test_ties_and_grid_points_encode_to_the_reference_bytes(name: str) -> None:
    grid = np.resize(np.arange(-16, 16.5, 0.25), 768).astype(np.float32).reshape(1, -1)
    reference = gguf.quants.quantize(grid, gguf.GGMLQuantizationType[name]).view(np.uint8)
    assert np.array_equal(encode(grid, BY_GGML[name].name), reference)


def test_block_sizes_are_ggmls() -> None:
    sizes = {c.ggml: (c.block, c.row_bytes(c.block)) for c in codecs().values() if c.ggml}
    assert sizes == {name: gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]] for name in sizes}
