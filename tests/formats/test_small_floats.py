"""FP8, FP6 and FP4 against the OCP specifications' tables and an exact definition, over every code."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.formats.codec import decode, encode, roundtrip
from waferline.formats.codecs.floats import E2M1, E2M3, E3M2, E4M3, E5M2, MiniFloat

ALL = (E4M3, E5M2, E3M2, E2M3, E2M1)
INF, NAN = float("inf"), float("nan")

# (format, code, value): OCP FP8 1.0 table 2, OCP MX 1.0 tables 4 and 5
GOLDEN = [
    (E4M3, 0x00, 0.0), (E4M3, 0x01, 2**-9), (E4M3, 0x07, 7 * 2**-9), (E4M3, 0x08, 2**-6), (E4M3, 0x38, 1.0),
    (E4M3, 0x7E, 448.0), (E4M3, 0x7F, NAN), (E4M3, 0xFF, NAN), (E4M3, 0xFE, -448.0),
    (E5M2, 0x01, 2**-16), (E5M2, 0x03, 3 * 2**-16), (E5M2, 0x04, 2**-14), (E5M2, 0x3C, 1.0), (E5M2, 0x7B, 57344.0),
    (E5M2, 0x7C, INF), (E5M2, 0xFC, -INF), (E5M2, 0x7D, NAN), (E5M2, 0x7F, NAN),
    (E3M2, 0x01, 0.0625), (E3M2, 0x04, 0.25), (E3M2, 0x1F, 28.0), (E3M2, 0x3F, -28.0),
    (E2M3, 0x01, 0.125), (E2M3, 0x08, 1.0), (E2M3, 0x1F, 7.5), (E2M3, 0x3F, -7.5),
    (E2M1, 0x01, 0.5), (E2M1, 0x02, 1.0), (E2M1, 0x03, 1.5), (E2M1, 0x05, 3.0), (E2M1, 0x07, 6.0), (E2M1, 0x0F, -6.0),
]  # fmt: skip


def exact_value(f: MiniFloat, code: int) -> Fraction | None:
    """The definition with rational numbers; None for what is not finite."""
    magnitude = code % f.sign_bit
    if magnitude > f.max_code:
        return None
    exponent, mantissa = divmod(magnitude, 2**f.mantissa_bits)
    significand = Fraction(mantissa, 2**f.mantissa_bits) + (exponent > 0)
    value = significand * Fraction(2) ** (max(exponent, 1) - f.bias)
    return -value if code >= f.sign_bit else value


@pytest.mark.parametrize(("f", "code", "value"), GOLDEN)
def test_published_values(f: MiniFloat, code: int, value: float) -> None:
    assert np.array_equal(f.decode(np.array([code], np.uint8)), np.array([value], np.float32), equal_nan=True)


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.name)
def test_every_code_has_its_exact_value_and_encodes_to_itself(f: MiniFloat) -> None:
    codes = np.arange(2 * f.sign_bit)
    finite = [c for c in codes if exact_value(f, int(c)) is not None]
    values = f.table()[finite]
    assert [Fraction(float(v)) for v in values] == [exact_value(f, int(c)) for c in finite]
    assert f.encode(values).tolist() == finite


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.name)
@given(x=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_encoding_is_nearest_with_ties_to_even(f: MiniFloat, x: float) -> None:
    code = int(f.encode(np.array([x], np.float32))[0])
    gaps = {c: abs(abs(Fraction(x)) - exact_value(f, c)) for c in range(f.max_code + 1)}  # type: ignore[operator]
    nearest = [c for c, gap in gaps.items() if gap == min(gaps.values())]
    assert code % f.sign_bit == (nearest[0] if len(nearest) == 1 else next(c for c in nearest if c % 2 == 0))
    assert (code >= f.sign_bit) == bool(np.signbit(np.float32(x)))


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.name)
def test_overflow_saturates_or_becomes_what_the_format_has(f: MiniFloat) -> None:
    huge = np.array([1e30, INF], np.float32)
    assert f.encode(huge).tolist() == [f.max_code] * 2
    loud = f.inf_code or f.nan_code or f.max_code
    assert f.encode(huge, saturate=False).tolist() == [loud] * 2


def test_an_independent_implementation_agrees() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is the independent implementation")
    peers = {
        E4M3: "float8_e4m3fn",
        E5M2: "float8_e5m2",
        E3M2: "float6_e3m2fn",
        E2M3: "float6_e2m3fn",
        E2M1: "float4_e2m1fn",
    }
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(100_000) * np.exp(rng.uniform(-14, 12, 100_000))).astype(np.float32)
    for f, name in peers.items():
        theirs = x.astype(getattr(ml_dtypes, name)).view(np.uint8)
        assert np.array_equal(f.decode(f.encode(x, saturate=False)), f.decode(theirs), equal_nan=True)


def test_fp8_carries_nan_and_a_tensor_scale() -> None:
    x = np.array([[1e-3, NAN, -2e-3, 0.0]], np.float32)
    data = encode(x, "fp8", tensor_scale=2e-3 / 448)
    back = decode(data, "fp8", x.shape, tensor_scale=2e-3 / 448)
    assert np.isnan(back[0, 1]) and back[0, 2] == pytest.approx(-2e-3) and back[0, 0] == pytest.approx(1e-3, rel=0.07)


# OCP MX 1.0 section 6.3: shared exponent = floor(log2(largest)) - largest exponent of the element format
MX_GOLDEN = [("mxfp4", 2), ("mxfp6", 2), ("mxfp6_e3m2", 4), ("mxfp8", 8), ("mxfp8_e5m2", 15)]


@pytest.mark.parametrize(("name", "element_exponent"), MX_GOLDEN)
@pytest.mark.parametrize("largest", [1.0, 1.99, 6.0, 1e-3, 2.0**-100, 3e38])
def test_shared_scale_is_the_specified_power_of_two(name: str, element_exponent: int, largest: float) -> None:
    x = np.linspace(-largest, largest, 32, dtype=np.float32).reshape(1, 32)
    expected = int(np.floor(np.log2(np.abs(x).max()))) - element_exponent + 127
    assert encode(x, name)[0, 0] == expected


@pytest.mark.parametrize("name", [n for n, _ in MX_GOLDEN] + ["nvfp4"])
def test_zeros_stay_zero_and_powers_of_two_scale_exactly(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 256)).astype(np.float32)
    assert not roundtrip(np.zeros((2, 256)), name).any()
    assert np.array_equal(roundtrip(x * 1024, name), 1024 * roundtrip(x, name))


def test_nvfp4_block_scale_is_e4m3_of_a_sixth_of_the_largest() -> None:
    x = np.zeros((1, 64), np.float32)
    x[0, 3], x[0, 20], x[0, 40] = 6.0, -3.0, 0.7
    data = encode(x, "nvfp4", tensor_scale=1.0)
    assert E4M3.decode(data[0, :4]).tolist() == [1.0, 0.5, E4M3.decode(E4M3.encode(np.float32([0.7 / 6])))[0], 0.0]
    back = decode(data, "nvfp4", (1, 64), tensor_scale=1.0)
    assert back[0, 3] == 6.0 and back[0, 20] == -3.0 and back[0, 40] == pytest.approx(0.7, rel=1 / 16)
