"""The catalogue's bits per weight are what the codecs really write."""

import pytest

from waferline.errors import UnsupportedError
from waferline.formats import format_names, get_format
from waferline.formats.codec import codec_for, codecs, row_bytes

LONG_ROW = 1 << 20  # so that one scale a row (int8) disappears
WITHOUT_CODEC = {"fp64", "tf32"}  # no use as stored weights
WITHOUT_CODEC |= {"fp8_block", "nf4", "nf4_single"}  # scales over two dimensions, or a table of levels
WITHOUT_CODEC |= {name for name in format_names() if "ik_llama" in get_format(name).source} | {
    "q1_0",
    "q2_0",
}  # read and timed, not written
NAMES = [n for n in format_names() if n not in WITHOUT_CODEC and not get_format(n).mixture]


@pytest.mark.parametrize("name", NAMES)
def test_catalogue_bits_are_written_bits(name: str) -> None:
    assert row_bytes(name, LONG_ROW) * 8 / LONG_ROW == pytest.approx(get_format(name).bits, abs=1e-4)


@pytest.mark.parametrize("name", sorted(WITHOUT_CODEC))
def test_formats_without_a_codec_say_so(name: str) -> None:
    with pytest.raises(UnsupportedError, match=name):
        codec_for(name)


@pytest.mark.parametrize("name", list(codecs()))
def test_bits_grow_with_whole_blocks_only(name: str) -> None:
    codec = codecs()[name]
    many = [codec.row_bytes(codec.block * k) for k in (1, 2, 4)]
    assert many[0] < many[1] < many[2]
