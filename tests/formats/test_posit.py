"""Posits against their definition in rational numbers, exhaustively, and against published tables."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.errors import UnsupportedError
from waferline.formats.codec import decode, encode
from waferline.formats.codecs.posit import posit_decode, posit_encode, posit_table, quire_bits


def definition(code: int, n: int, es: int) -> Fraction | None:
    """The value of one code, read from its bit string; None for NaR."""
    text = format(code, f"0{n}b")
    if text == "1" + "0" * (n - 1):
        return None
    if code == 0:
        return Fraction(0)
    if text[0] == "1":
        value = definition((2**n - code) % 2**n, n, es)
        assert value is not None
        return -value
    body = text[1:]
    run = len(body) - len(body.lstrip(body[0]))
    regime = run - 1 if body[0] == "1" else -run
    rest = body[run + 1 :]
    exponent = int((rest[:es] + "0" * es)[:es] or "0", 2)
    fraction = rest[es:]
    significand = 1 + (Fraction(int(fraction, 2), 2 ** len(fraction)) if fraction else 0)
    return significand * Fraction(2) ** (regime * 2**es + exponent)


# positive values: papers on XR-NPE (4,1), (4,0); the posit literature's (8,0) extremes and (16,1), (8,2), (16,2) ranges
POSITIVE = {
    (4, 1): [1 / 16, 1 / 4, 1 / 2, 1, 2, 4, 16],
    (4, 0): [1 / 4, 1 / 2, 3 / 4, 1, 3 / 2, 2, 4],
    (3, 0): [1 / 2, 1, 2],
}
EXTREMES = {
    (8, 0): (2**-6, 64),
    (8, 1): (2**-12, 4096),
    (16, 1): (2**-28, 2**28),
    (8, 2): (2**-24, 2**24),
    (16, 2): (2**-56, 2**56),
}


@pytest.mark.parametrize(("n", "es"), [(2, 0), (3, 1), (4, 0), (4, 1), (5, 3), (8, 0), (8, 1), (8, 2), (12, 1)])
def test_every_code_has_the_defined_value_and_encodes_to_itself(n: int, es: int) -> None:
    values = posit_decode(np.arange(2**n), n, es)
    for code in range(2**n):
        expected = definition(code, n, es)
        assert np.isnan(values[code]) if expected is None else Fraction(float(values[code])) == expected
    for rounding in ("nearest", "standard"):
        assert posit_encode(values, n, es, rounding).tolist() == list(range(2**n))  # type: ignore[arg-type]


def test_sixteen_bit_codes_agree_on_a_sample_and_are_monotone() -> None:
    for code in range(0, 2**16, 97):
        expected = definition(code, 16, 1)
        value = posit_table(16, 1)[code]
        assert np.isnan(value) if expected is None else Fraction(float(value)) == expected
    signed = posit_table(16, 1)[np.arange(-(2**15) + 1, 2**15) % 2**16]
    assert np.all(np.diff(signed) > 0)


@pytest.mark.parametrize(("shape", "values"), POSITIVE.items())
def test_published_tables(shape: tuple[int, int], values: list[float]) -> None:
    assert posit_table(*shape)[1 : 2 ** (shape[0] - 1)].tolist() == values


@pytest.mark.parametrize(("shape", "extremes"), EXTREMES.items())
def test_published_ranges(shape: tuple[int, int], extremes: tuple[float, float]) -> None:
    table = posit_table(*shape)
    assert (table[1], table[2 ** (shape[0] - 1) - 1]) == extremes


@given(x=st.floats(allow_nan=False, allow_infinity=False, width=32), shape=st.sampled_from([(4, 1), (8, 0), (8, 2)]))
def test_encoding_is_nearest_with_ties_to_even_and_never_zero_or_nar(x: float, shape: tuple[int, int]) -> None:
    n, es = shape
    code = int(posit_encode(np.array([x]), n, es)[0])
    assert code != 2 ** (n - 1) and (code == 0) == (x == 0)
    if x:
        value = {c: definition(c, n, es) for c in range(1, 2 ** (n - 1))}
        gaps = {c: abs(abs(Fraction(x)) - v) for c, v in value.items() if v is not None}
        nearest = [c for c, gap in gaps.items() if gap == min(gaps.values())]
        expected = nearest[0] if len(nearest) == 1 else next(c for c in nearest if c % 2 == 0)
        assert code == (expected if x > 0 else 2**n - expected)


def test_standard_rounding_differs_only_where_exponent_bits_are_cut() -> None:
    # between 4 (0110) and 16 (0111) of posit(4,1): the value in the middle is 10, the standard's boundary is 8
    assert posit_encode(np.array([9.0]), 4, 1, "nearest")[0] == 6
    assert posit_encode(np.array([9.0]), 4, 1, "standard")[0] == 7
    x = np.linspace(0.6, 1.9, 1001)  # exponent bits complete here in posit(8,0): only fractions are rounded
    assert np.array_equal(posit_encode(x, 8, 0, "nearest"), posit_encode(x, 8, 0, "standard"))


def test_not_a_number_is_nar_and_comes_back() -> None:
    assert posit_encode(np.array([np.nan, np.inf, -np.inf]), 8, 0).tolist() == [128] * 3
    assert np.isnan(posit_decode(np.array([128]), 8, 0)[0])
    data = encode(np.array([[np.nan, 1.0]], np.float32), "posit8")
    assert np.isnan(decode(data, "posit8", (1, 2))[0, 0])


def test_quire_widths_are_the_published_ones() -> None:
    assert quire_bits(8, 0, 1) == 25 and quire_bits(8, 0, 256) == 33


def test_sizes_without_tables_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"posit\(32,2\)"):
        posit_encode(np.array([1.0]), 32, 2)


@pytest.mark.parametrize("name", ["posit4", "posit8", "posit16"])
def test_packed_bytes_decode_to_the_same_codes(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
    n, es = {"posit4": (4, 1), "posit8": (8, 0), "posit16": (16, 1)}[name]
    expected = posit_decode(posit_encode(x, n, es), n, es).astype(np.float32)
    assert np.array_equal(decode(encode(x, name), name, x.shape), expected)
