"""Numbers as people read them, and text of others made safe for a terminal, Markdown and a spreadsheet."""

from __future__ import annotations

import math
import re
import reprlib

MISSING = "–"

_STEPS = (
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
)


def metric(value: float, unit: str = "") -> str:
    """`metric(0.0042, "s")` is `4.20 ms`; `metric(1.6e10, "B")` is `16.0 GB`."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return f"0 {unit}".strip()
    size = abs(value)
    if not 1e-12 <= size < 1e18:  # beyond the prefixes digits would say nothing
        return f"{value:.2e} {unit}".strip()
    scale, prefix = next(((s, p) for s, p in _STEPS if size >= s * 0.9995), _STEPS[-1])
    return f"{_three(value / scale)} {prefix}{unit}".strip()


def _three(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{digits}f}"


def percent(value: float) -> str:
    """A share in per cent, two digits below ten per cent."""
    if not math.isfinite(value):
        return MISSING
    if value and abs(value) < 0.1:
        return f"{100 * value:.2g} %"
    return f"{100 * value:.0f} %"


def signed_percent(value: float) -> str:
    """A difference in per cent with its sign."""
    return f"{100 * value:+.0f} %".replace("-", "−") if math.isfinite(value) else MISSING


def dollars(value: float) -> str:
    if not math.isfinite(value):
        return MISSING
    return f"${value:,.0f}" if value >= 100 else f"${value:.3g}"


def number(value: float) -> str:
    """Four significant digits; whole thousands from ten thousand up."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def short(value: float) -> str:
    """Three significant digits; whole numbers from a thousand up."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def is_count(text: str) -> bool:
    """Whether `int` reads `text` as a count that something could have: decimal digits (not `²`), at most nine."""
    return text.isdecimal() and len(text) < 10


def printable(text: str) -> str:
    """`text` with every control character, line break and lone surrogate escaped: `\\x1b` can steer no terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def cut(text: str, most: int = 120) -> str:
    """`text` on one line of at most `most` characters, its middle left out where it is longer."""
    text = printable(text)
    return text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[len(text) - most // 3 + 1 :]}"


def one_line(message: str, most: int = 600) -> str:
    """A message on one printable line; what it quotes, and any word of it, is cut where that is long."""
    line = printable(message)
    if len(line) > 120:
        line = re.sub(r"'([^']{121,})'", lambda quoted: f"'{cut(quoted[1])}'", line)
        line = re.sub(r"\S{161,}", lambda word: cut(word[0]), line)
    return cut(line, most)


def told(value: object) -> str:
    """Any object in a few words, also one that cannot say what it is."""
    try:
        return cut(reprlib.repr(value))
    except Exception:  # a number of thousands of digits, an object that raises
        return f"a {type(value).__name__}"


def markdown_cell(text: str) -> str:
    """`text` as the cell of a Markdown table: no cell ends early, no tag, link or code span begins."""
    return re.sub(r"[\\|\[`]", r"\\\g<0>", printable(text)).replace("<", "&lt;")


def csv_cell(text: str) -> str:
    """`text` as a spreadsheet takes it for text: what begins like a formula gets an apostrophe before it."""
    text = printable(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
