"""One client of ServeGen's pools as requests: windows of arrivals from its `-trace.csv`, lengths from the `-dataset.json` beside.

The forms are those that ServeGen's own `clientpool.py` reads: a line a window (start, rate, CV of the gaps, family with its shape
and scale, which are empty where nothing came), and for windows of the second file texts of {tokens: share}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.catalog.table_file import text_lines
from waferline.catalog.text_file import read_text
from waferline.errors import FileFormatError
from waferline.simulate.serving.lengths import MOST_TOKENS

ENDING, BESIDE = "-trace.csv", "-dataset.json"
WINDOW_S = 600.0  # of the last window, which no other ends
_FIELDS = ("input_tokens", "output_tokens")
_SHARE = re.compile(r"(\d+): *([0-9.]+(?:[eE][-+]?\d+)?)")
_SEEN = ("image", "audio", "video")  # what a request of text does not have
_LINE_BYTES, _FILE_BYTES = 1000, 500_000_000


def read_client(path: Path, most: int, seed: int = 0) -> dict[str, AnyArray]:
    """Columns of a trace, drawn by `seed`.

    Raises: FileFormatError naming the row, where no lengths are beside, or for more than `most` requests.
    """
    random, lengths = np.random.default_rng(seed), _lengths(path.with_name(path.name.removesuffix(ENDING) + BESIDE))
    windows = [_window(line, number, path) for number, line in enumerate(text_lines(path, _LINE_BYTES), start=1)]
    starts = [w[0] for w in windows]
    early = next((i for i, (a, b) in enumerate(pairwise(starts), start=2) if not a < b), None)
    if early is not None:
        raise FileFormatError(f"row {early}: it is not after the row above it", where=str(path))
    arrival, tokens, known = [], [], sorted(lengths)
    for (start, rate, family, shape, scale), end in zip(windows, [*starts[1:], starts[-1] + WINDOW_S], strict=True):
        held = max((t for t in known if t <= start), default=None)
        if not rate or held is None:
            continue
        if rate * (end - start) > most:
            raise FileFormatError(f"more than {most:,} requests", where=str(path))
        came = _gaps(random, family, shape, scale, rate, end - start)
        arrival.append(start + came)
        tokens.append([random.choice(values, came.size, p=shares) for values, shares in lengths[held]])
    total = sum(a.size for a in arrival)
    if not 0 < total <= most:
        raise FileFormatError(
            "the client sends nothing" if not total else f"more than {most:,} requests", where=str(path)
        )
    prompt, output = (np.concatenate([t[i] for t in tokens]) for i in range(2))
    times = np.concatenate(arrival)
    return {
        "arrival_s": times - times[0],
        "prompt_tokens": np.maximum(prompt, 1),
        "output_tokens": np.maximum(output, 1),
    }


def _window(line: str, number: int, path: Path) -> tuple[float, float, str, float, float]:
    """(start, rate, family, shape, scale); a rate of 0 where nothing came."""
    try:
        start, rate, _, family, shape, scale = (part.strip() for part in line.split(","))
        if family == "":
            return float(start), 0.0, "", 0.0, 0.0
        found = float(start), float(rate), float(shape), float(scale)
    except ValueError:
        raise FileFormatError(f"row {number}: not start, rate, CV, family, shape and scale", where=str(path)) from None
    if family not in ("Gamma", "Weibull") or not (np.isfinite(found[0]) and found[1] >= 0 and _drawn(*found[2:])):
        raise FileFormatError(f"row {number}: no Gamma or Weibull gaps of {line.strip()}", where=str(path))
    return found[0], found[1], family, found[2], found[3]


def _drawn(shape: float, scale: float) -> bool:
    """Whether numbers of the family are numbers."""
    return 1e-2 <= shape <= 1e6 and 1e-9 <= scale <= 1e9


def _gaps(
    random: np.random.Generator, family: str, shape: float, scale: float, rate: float, for_s: float
) -> FloatArray:
    """Arrivals within `for_s`: gaps of the family, as many as the rate says, which its fit may miss a little."""
    many = max(round(rate * for_s), 1)
    gaps = random.gamma(shape, scale, many) if family == "Gamma" else scale * random.weibull(shape, many)
    ends = np.cumsum(gaps)
    return np.asarray(ends * (for_s / max(float(ends[-1]), for_s)))


def _lengths(path: Path) -> dict[float, list[tuple[AnyArray, FloatArray]]]:
    """Start of a window → (tokens, shares) of prompts and of outputs."""
    where = str(path)
    if not path.exists():
        raise FileFormatError("the lengths of the client's requests are not beside its trace", where=where)
    try:
        data = json.loads(read_text(path, _FILE_BYTES))
        found = {
            float(start): _shares(fields, where)
            for start, fields in data.items()
            if all(map(_SHARE.search, fields.values()))
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"not windows of input_tokens and output_tokens as {{tokens: share}}: {error}", where=where
        ) from None
    if not found:
        raise FileFormatError("no window has lengths", where=where)
    return found


def _shares(fields: Mapping[str, Any], where: str) -> list[tuple[AnyArray, FloatArray]]:
    seen = next((name for name in fields if name.startswith(_SEEN)), None)
    if seen is not None:
        raise FileFormatError(f"requests with {seen} are not simulated: prompts are text", where=where)
    found = []
    for name in _FIELDS:
        pairs = np.array([(float(a), float(b)) for a, b in _SHARE.findall(fields[name])])
        if pairs[:, 0].max() > MOST_TOKENS or not 0.0 < pairs[:, 1].sum() < np.inf:
            raise FileFormatError(
                f"{name} of {pairs[:, 0].max():.0f} tokens, shares of {pairs[:, 1].sum():g}", where=where
            )
        found.append((pairs[:, 0].astype(np.int64), pairs[:, 1] / pairs[:, 1].sum()))
    return found
