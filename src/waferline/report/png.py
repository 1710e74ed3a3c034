"""A small PNG writer: a heat map with title, scale and labels, with nothing but zlib.

Plotly draws PNG only through a browser engine, and a plotting library for one picture is a dependency too many.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from waferline.arrays import FloatArray

Image = NDArray[np.uint8]

# Perceptually even, from dark blue to yellow (nine stops of viridis, matplotlib's default, CC0).
STOPS = np.array(
    [
        [68, 1, 84],
        [71, 44, 122],
        [59, 81, 139],
        [44, 113, 142],
        [33, 144, 141],
        [39, 173, 129],
        [92, 200, 99],
        [170, 220, 50],
        [253, 231, 37],
    ]
)
INK, PAPER = (30, 30, 40), (255, 255, 255)

# Rows of a 5 x 7 letter, five bits each, most significant on the left.
GLYPHS = {
    "0": "0E11131519110E", "1": "040C040404040E", "2": "0E11010204081F", "3": "1F02040201110E",
    "4": "02060A121F0202", "5": "1F101E0101110E", "6": "0608101E11110E", "7": "1F010204080808",
    "8": "0E11110E11110E", "9": "0E11110F01020C", "a": "00000E010F110F", "b": "1010161911111E",
    "c": "00000E1010110E", "d": "01010D1311110F", "e": "00000E111F100E", "f": "0609081C080808",
    "g": "000F11110F010E", "h": "10101619111111", "i": "04000C0404040E", "j": "0200060202120C",
    "k": "10101214181412", "l": "0C04040404040E", "m": "00001A15151111", "n": "00001619111111",
    "o": "00000E1111110E", "p": "00001E111E1010", "q": "00000D130F0101", "r": "00001619101010",
    "s": "00000E100E011E", "t": "08081C08080906", "u": "0000111111130D", "v": "00001111110A04",
    "w": "0000111115150A", "x": "0000110A040A11", "y": "000011110F010E", "z": "00001F0204081F",
    "-": "0000001F000000", ".": "00000000000C0C", ",": "0000000C040800", ":": "000C0C000C0C00",
    "(": "02040808080402", ")": "08040202020408", "/": "00010204081000", "+": "0004041F040400", " ": "00000000000000",
}  # fmt: skip


def heat_map_png(values: FloatArray, title: str, quantity: str, path: Path, *, side: int = 640) -> None:
    """Write `values` (rows, columns) as a coloured map with its scale; each core is a square of whole pixels."""
    rows, columns = values.shape
    cell = max(1, side // max(rows, columns))
    low, high = float(values.min()), float(values.max())
    shade = (values - low) / (high - low) if high > low else np.zeros_like(values)
    body = np.kron(_colours(shade), np.ones((cell, cell, 1), np.uint8)).astype(np.uint8)
    margin, scale_width = 44, 150
    width = max(body.shape[1] + 2 * margin + scale_width, 12 * max(len(title), len(quantity)) + 2 * margin)
    image = np.full((body.shape[0] + 2 * margin + 44, width, 3), PAPER, np.uint8)
    top = margin + 34
    image[top - 1 : top + body.shape[0] + 1, margin - 1 : margin + body.shape[1] + 1] = INK
    image[top : top + body.shape[0], margin : margin + body.shape[1]] = body
    _write(image, title.lower(), 14, margin, 2)
    _write(image, quantity.lower(), 40, margin, 2)
    _write(image, f"x: 0 to {columns - 1}, y: 0 to {rows - 1} downwards", top + body.shape[0] + 12, margin, 2)
    _scale(image, body.shape[0], top, margin + body.shape[1] + 24, low, high)
    path.write_bytes(_encode(image))


def _colours(shade: FloatArray) -> Image:
    place = np.clip(shade, 0, 1) * (len(STOPS) - 1)
    below = np.minimum(place.astype(int), len(STOPS) - 2)
    part = (place - below)[..., None]
    return np.rint(STOPS[below] * (1 - part) + STOPS[below + 1] * part).astype(np.uint8)


def _scale(image: Image, height: int, top: int, left: int, low: float, high: float) -> None:
    bar = _colours(np.linspace(1, 0, height)[:, None])
    image[top : top + height, left : left + 18] = bar
    for part in (0.0, 0.5, 1.0):
        value = low + (high - low) * part
        _write(image, f"{value:,.0f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}",
               top + round((height - 14) * (1 - part)), left + 26, 2)  # fmt: skip


def _write(image: Image, text: str, top: int, left: int, size: int) -> None:
    for letter in text:
        bits = bytes.fromhex(GLYPHS.get(letter, GLYPHS["-"]))
        glyph = np.array([[row >> (4 - i) & 1 for i in range(5)] for row in bits], bool)
        ink = np.kron(glyph, np.ones((size, size), bool))
        patch = image[top : top + ink.shape[0], left : left + ink.shape[1]]
        patch[ink[: patch.shape[0], : patch.shape[1]]] = INK
        left += 6 * size


def _encode(image: Image) -> bytes:
    height, width = image.shape[:2]
    lines = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, width * 3)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, colour
    body = zlib.compress(lines.tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
