"""FP8, FP6 and FP4 against the OCP specifications' tables and an exact definition, over every code."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.formats.codec import decode, encode, roundtrip
from waferline.formats.codecs.floats import E2M1, E2M3, E3M2, E4M3, E5M2, MiniFloat

# exponent bits, mantissa bits, code of the largest finite value: OCP FP8 1.0 table 1, OCP MX 1.0 tables 4 and 5
LAYOUTS = {E4M3: (4, 3, 0x7E), E5M2: (5, 2, 0x7B), E3M2: (3, 2, 0x1F), E2M3: (2, 3, 0x1F), E2M1: (2, 1, 0x07)}
ALL = tuple(LAYOUTS)
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


def sign_bit(f: MiniFloat) -> int:
    return 1 << (LAYOUTS[f][0] + LAYOUTS[f][1])


def exact_value(f: MiniFloat, code: int) -> Fraction | None:
    """The definition with rational numbers; None for what is not finite."""
    exponent_bits, mantissa_bits, max_code = LAYOUTS[f]
    magnitude = code % sign_bit(f)
    if magnitude > max_code:
        return None
    exponent, mantissa = divmod(magnitude, 2**mantissa_bits)
    significand = Fraction(mantissa, 2**mantissa_bits) + (exponent > 0)
    value = significand * Fraction(2) ** (max(exponent, 1) - (2 ** (exponent_bits - 1) - 1))
    return -value if code >= sign_bit(f) else value


@pytest.mark.parametrize(("f", "code", "value"), GOLDEN)
def test_published_values(f: MiniFloat, code: int, value: float) -> None:
    assert np.array_equal(f.decode(np.array([code], np.uint8)), np.array([value], np.float32), equal_nan=True)


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.name)
def test_every_code_has_its_exact_value_and_encodes_to_itself(f: MiniFloat) -> None:
    codes = np.arange(2 * sign_bit(f))
    finite = [c for c in codes if exact_value(f, int(c)) is not None]
    values = f.table()[finite]
    assert [Fraction(float(v)) for v in values] == [exact_value(f, int(c)) for c in finite]
    assert f.encode(values).tolist() == finite


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.name)
@given(x=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_encoding_is_nearest_with_ties_to_even(f: MiniFloat, x: float) -> None:
    code = int(f.encode(np.array([x], np.float32))[0])
    gaps = {c: abs(abs(Fraction(x)) - exact_value(f, c)) for c in range(LAYOUTS[f][2] + 1)}  # type: ignore[operator]
    nearest = [c for c, gap in gaps.items() if gap == min(gaps.values())]
    assert code % sign_bit(f) == (nearest[0] if len(nearest) == 1 else next(c for c in nearest if c % 2 == 0))
    assert (code >= sign_bit(f)) == bool(np.signbit(np.float32(x)))


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.name)
def test_overflow_saturates_and_nan_stays_where_there_is_one(f: MiniFloat) -> None:
    assert f.encode(np.array([1e30, INF, -INF], np.float32)).tolist() == [
        LAYOUTS[f][2],
        LAYOUTS[f][2],
        LAYOUTS[f][2] + sign_bit(f),
    ]
    if np.isnan(f.table()).any():
        assert np.isnan(f.decode(f.encode(np.array([NAN], np.float32))))


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.name)
def test_every_half_precision_number_gets_the_nearest_value(f: MiniFloat) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    x = x[np.isfinite(x)]
    levels = np.array([exact_value(f, c) for c in range(LAYOUTS[f][2] + 1)], np.float64)
    gap = np.abs(np.abs(x.astype(np.float64))[:, None] - levels)
    chosen = f.encode(x) % sign_bit(f)
    assert np.array_equal(np.take_along_axis(gap, chosen[:, None].astype(np.intp), 1)[:, 0], gap.min(axis=1))


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
