"""JSON: one encoder for every record and array, one reader that refuses what is ambiguous."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from waferline.encode import dumps, encode, loads
from waferline.errors import FileFormatError, InvalidInputError


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: np.ndarray
    colour: Colour = Colour.RED


def test_records_arrays_and_numbers() -> None:
    value = {
        "p": Point(math.nan, np.array([1.0, np.inf])),
        ("k"): (np.int64(3), np.True_, Path("a/b"), date(2024, 5, 1)),
    }
    assert encode(value) == {"p": {"x": None, "y": [1.0, None], "colour": "red"}, "k": [3, True, "a/b", "2024-05-01"]}
    assert json.loads(dumps(value)) == encode(value)
    assert encode({3, 1, 2}) == [1, 2, 3]
    assert encode(InvalidInputError("no"))["kind"] == "invalid-input"
    assert encode(np.array(["a", "b"])) == ["a", "b"] and encode(np.float32(0.5)) == 0.5


def test_any_terminal_takes_it() -> None:
    assert dumps({"µ": "–\ud800\x1b"}).isascii()


def test_what_has_no_form_is_a_bug() -> None:
    with pytest.raises(TypeError, match="object"):
        encode(object())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is given twice"),
        ("[NaN]", "NaN"),
        ('{"a": ', "not JSON"),
        ("[" * 200_000, "nested"),
        ("9" * 5_000, "digits"),
        (b"\xff\xfe{", "UTF-8"),
    ],
)
def test_ambiguous_or_broken_text_is_refused(text: str | bytes, words: str) -> None:
    with pytest.raises(FileFormatError, match=words) as caught:
        loads(text, "x.json")
    assert "x.json" in str(caught.value)
