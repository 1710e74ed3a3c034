"""JSON: one encoder for every record and array."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from waferline.encode import dumps, encode
from waferline.errors import InvalidInputError


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
