"""Formats that are spelt by their sizes: integers in groups of any size, ExLlama's widths."""

from __future__ import annotations

import pytest

from waferline.errors import InvalidInputError, UnknownNameError
from waferline.formats import get_format, resolve


@pytest.mark.parametrize(
    ("name", "bits", "family"),
    [
        ("int4_g32", 4 + (16 + 4) / 32, "int4"),
        ("int4_g32_sym", 4 + 16 / 32, "int4"),
        ("int4_g64_affine", 4 + (16 + 16) / 64, "int4"),
        ("int3_g64", 3 + (16 + 3) / 64, "int3"),
        ("INT8-G128", 8 + (16 + 8) / 128, "int8"),
        ("int4_row", 4, "int4"),
        ("exl2_4.65", 4.65, "exl2_4.65"),
        ("exl3_3", 3, "exl3_3"),
        ("awq", 4 + 20 / 128, "int4"),
        ("fp8_block", 8 + 32 / 128**2, "fp8"),
        ("q4_k", 4.5, "q4_k"),
    ],
)
def test_bits_and_family(name: str, bits: float, family: str) -> None:
    found = get_format(name)
    assert (found.bits, found.family) == (pytest.approx(bits), family)


def test_int4_g128_is_what_the_catalogue_calls_int4() -> None:
    assert get_format("int4_g128").name == "int4"


@pytest.mark.parametrize("name", ["int4_g0", "exl3_9.5"])
def test_sizes_that_no_format_has(name: str) -> None:
    with pytest.raises(InvalidInputError):
        get_format(name)


@pytest.mark.parametrize("name", ["int9_g32", "int4_g", "int4_g32_asym", "exl4_4", "exl3_", "int4_g9999999"])
def test_names_that_are_no_format(name: str) -> None:
    with pytest.raises(UnknownNameError):
        get_format(name)


def test_a_precision_may_name_them() -> None:
    precision = resolve("w=int4_g32_sym,a=bf16", lambda fmt: fmt)
    assert (precision.weights, precision.activations) == ("int4_g32_sym", "bf16")


def test_blocks_of_microscaling_are_no_gguf_blocks() -> None:
    assert not any(get_format(name).packed for name in ("mxfp4", "mxfp8", "int4_g32", "int8_g256"))
    assert all(get_format(name).packed for name in ("q4_0", "q8_0", "q4_k_m", "iq4_xs", "tq1_0"))


@pytest.mark.parametrize("text", [",,,", "fp8,", "w=", "w=fp8,w=int4", "fp8,int4"])
def test_a_precision_says_each_part_once(text: str) -> None:
    """An empty last piece had taken the place of all that was said, and the last of two had won."""
    with pytest.raises(InvalidInputError, match=r"empty part|twice"):
        resolve(text, lambda name: name)
