"""Values that nobody means: texts for options and arguments, objects for Python."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

# What no option of any command can mean; exit code 0 for it says that the option was not looked at.
NONSENSE = "zz-no-such-thing"

NUMBERS = (
    *("0", "-0", "-1", "1", "2", "3", "7", "1.5", "-1.5", "1e9", "1e-320", "1e308", "1e400", "0x10", "1_000", "+1"),
    *("nan", "NaN", "inf", "-inf", "9" * 19, "9" * 400, "9" * 5000, "2147483648", "9223372036854775807", "65537"),
    *("²", "½", "８", "١٢", "1 ", " 1", "1,2", "1,,2", ",", ",,,", "1e3", "10**9", "32k", "32Ki", "99999M", "1k1"),
)
SHAPES = ("0x0", "1x1", "1x1x1", "-1x4", "999999x999999", "4x4x4x4", "x", "4x", "²x²", "1e3x1e3", "NaNxNaN")
TEXTS = (
    *("", " ", "\t", "a\nb", "\r\n", "\0", "a\0b", "\x1b[31m", "\x1b]0;t\x07", "\x9b31m", "\u202e", "\ufeff", "🙂", "–µ"),
    *("\udcff", "e\u0301", "a" * 300, "a" * 5000, "/" * 300, "a/" * 200, "[/foo]", "[red]", "<script>", "<!--", "=1+1"),
    *("$(id)", "`id`", ";", "|", "&", "'", '"', "\\", "%s%n", "{}", "{0.__class__}", "[]", "null", "None", "true", "*"),
    *("../..", ".", "/", "~", "~root", "-", "--", "--json", "-h", "-x", "this", "auto", "none"),
    *("w=fp8,w=int4", "w=", "w=fp16,kv=zz", "kv=", "=", "a=b=c", "h100", "llama-3-8b", "vllm", "fp16", "q4_k_m", "train"),
    *("h100,h100", "h100,,", "64GB", "-64GB", "5 meter", "500ms", "-1s", "1e400s", "8/s", "-8/s", "0/s", "1/0s", "p99=1s"),
    *("ttft=500ms,ttft=1s", "experts=999999", "layers=-1", "weights=1e999GB", "eagle:tokens=-1", "eagle:zz=1", "eagle:"),
    *("ring", "ktree:0", "ktree:²", "lognormal:1024,cv=-1", "uniform:9,1", "poisson", "file:///etc/passwd"),
    *("http://127.0.0.1:1", "http://[::1", "tcp://127.0.0.1:1", "ftp://x", "http://a b/", "/dev/null", "/dev/full", "/dev/zero"),
)  # fmt: skip
# Files of the workplace that `places.py` makes.
PLACES = (
    *("fifo", "loop", "folder", "empty.yaml", "zero.yaml", "laughs.yaml", "deep.json", "twice.json", "sparse.gguf"),
    *("noise.gguf", "noise.parquet", "noise.safetensors", "noise.onnx", "noise.tflite", "noise.pt2", "noise.csv"),
    *("noise.csv.gz", "noise.json", "noise.yaml", "noise.jsonl", "sparse.csv", "sparse.json", "no/such/place"),
)  # fmt: skip
EVERY = (*NUMBERS, *SHAPES, *TEXTS, *PLACES)


class _Lies:
    """Says that it is a number, and raises when it is asked."""

    def __float__(self) -> float:
        raise RuntimeError("no number")

    __int__ = __index__ = __len__ = __iter__ = __bool__ = __str__ = __repr__ = __float__  # type: ignore[assignment]


def _pint(text: str) -> Callable[[], Any]:
    def make() -> Any:
        from waferline.units import registry

        return registry().Quantity(text)

    return make


def _masked() -> Any:
    return np.ma.masked_array([1.0, 2.0], mask=[False, True])


OBJECTS: tuple[tuple[str, Callable[[], Any]], ...] = tuple(
    (name, make if callable(make) else (lambda value=make: value))
    for name, make in (
        *((repr(v)[:40], v) for v in (None, True, False, 0, -1, 1.5, -1.5, float("nan"), float("inf"), -float("inf"))),
        *((f"10**{n}", 10**n) for n in (9, 19, 400)),
        *(("10**5000", lambda: 10**5000), ("1e308", 1e308), ("1e-320", 1e-320), ("1j", 1j), ("np.nan", np.float64("nan"))),
        *((repr(v)[:40], v) for v in ("", " ", "nan", "1", "-1", "5 meter", "9" * 500, "\x1b[31m", "a\0b", "\udcff", NONSENSE)),
        *((repr(v), v) for v in (b"1", b"\xff", bytearray(b"1"), Path("no/such"), Path("/dev/zero"), Fraction(1, 3))),
        *((repr(v), v) for v in (np.True_, np.int8(-1), np.datetime64("2026-01-01"), np.timedelta64(5, "s"))),
        *((repr(v), v) for v in (datetime.datetime(2026, 1, 1), datetime.timedelta(seconds=1), datetime.date(2026, 1, 1))),
        *((f"array {v!r}", np.asarray(v)) for v in ([], [1, 2, 3], [[1, 2], [3, 4]], [1.5], ["1",
        "2"], [None], [True], [np.nan])),
        *((f"array of {k}", np.ones(2, dtype=k)) for k in ("O", "S1", "complex128", "bool", "float16", "M8[s]")),
        *((repr(v)[:40], v) for v in ([], [1, 2], [1, "a"], [[1], [2, 3]], (), (1, 2), {}, {"a": 1}, set(), {1}, frozenset())),
        *((name, v) for name, v in (("object", object), ("type", lambda: int), ("module", lambda: np),
        ("lambda", lambda: print))),
        *(("masked array", _masked), ("range", lambda: range(3)), ("endless", lambda: iter(int, 1)), ("lies", _Lies)),
        *((f"pint {t}", _pint(t)) for t in ("2 meter", "3 second", "5 gigabyte", "1 dimensionless", "-1 token", "nan watt")),
        *((name, v) for name, v in (("Ellipsis", lambda: ...), ("NotImplemented", lambda: NotImplemented),
        ("slice", lambda: slice(1)))),
    )
)  # fmt: skip
