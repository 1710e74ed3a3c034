"""Every kind of file that is read, damaged: the reader answers with sane numbers or a typed error, soon and in little memory."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz.contract import TooLong, clock
from benchmarks.fuzz.values import NUMBERS, SHAPES, TEXTS
from waferline.errors import WaferlineError

MOST_S = 10.0  # of a processor, a case
_MOST_BYTES = 1 << 20  # of a damaged file
_WORD = re.compile(rb"[^\s,:{}\[\]\"']+")


def _predict(**asked: Any) -> Callable[[Path], Any]:
    """Predicts with the file as the one field of a scenario that `asked` leaves out."""

    def read(path: Path) -> Any:
        from waferline.predict.run import run
        from waferline.predict.scenario import Scenario

        free = "machine" if "model" in asked else "model"
        return run(Scenario(**{**asked, free: str(path)})).result

    return read


def _profile(path: Path) -> Any:
    from waferline.predict.run import run
    from waferline.predict.scenario import Scenario

    return run(Scenario(model="llama-3-8b", machine="l4", profile=str(path))).result


def _sweep(path: Path) -> Any:
    from waferline.search.study_file import read_sweep

    return read_sweep(path)


def _claims(path: Path) -> Any:
    from waferline.evidence.claims.written import read_claims

    return read_claims(path)


def _rows(path: Path) -> Any:
    from waferline.evidence.check import check
    from waferline.evidence.rows import read_rows

    return check(read_rows(path)[:20])


def _operators(path: Path) -> Any:
    from waferline.evidence.operators import check_operators

    return check_operators(path.parent)


def _runs(path: Path) -> Any:
    from waferline.evidence.serving_runs import read_runs

    return [(run.number("prompt"), run.steady) for run in read_runs(path)]


def _energy(path: Path) -> Any:
    from waferline.evidence.energy import check_energy, read_energy

    return check_energy(read_energy(path))


def _effects(path: Path) -> Any:
    from waferline.evidence.techniques import check_effects, read_effects

    return check_effects(read_effects(path))


def _trace(path: Path) -> Any:
    from waferline.simulate.serving.trace import read_trace
    from waferline.simulate.serving.traffic import Traffic

    return Traffic(trace=read_trace(path)).checked().sent()


def _store(path: Path) -> Any:
    from waferline.measure.rows import evidence_rows, rows_csv
    from waferline.measure.store import read

    return rows_csv(evidence_rows(read(path).records))


def _guidellm(path: Path) -> Any:
    from waferline.measure.server.guidellm import read_guidellm

    return read_guidellm(path)


def _tensors(path: Path) -> Any:
    from waferline.formats.open_file import open_tensors

    file = open_tensors(path)
    return [file.read(tensor) for tensor in file.tensors]


def _points(path: Path) -> Any:
    from waferline.search.frontier import frontier

    return frontier(path, "itl_s", "ttft_s")


# A file of `places.make` → what reads it.
READERS: Mapping[str, Callable[[Path], Any]] = {
    "model/config.json": _predict(machine="h100", batch=2),
    "model.yaml": _predict(machine="h100", batch=2),
    "machine.yaml": _predict(model="gpt2"),
    "profile.yaml": _profile,
    "study.yaml": _sweep,
    "claims.yaml": _claims,
    "rows.csv": _rows,
    "h100_gemm.csv": _operators,
    "runs.csv": _runs,
    "energy.csv": _energy,
    "effects.csv": _effects,
    "trace.csv": _trace,
    "trace.jsonl": _trace,
    "store.jsonl": _store,
    "guidellm.json": _guidellm,
    "tensors.safetensors": _tensors,
    "model.gguf": _tensors,
    "tiny.gguf": _predict(machine="m2-ultra"),
    "net.onnx": _predict(machine="l4"),
    "net.tflite": _predict(machine="esp32-s3"),
    "points.parquet": _points,
}


@dataclass(frozen=True, slots=True)
class Damaged:
    name: str
    seed: int

    def __str__(self) -> str:
        return f"{self.name} #{self.seed}"


def damaged(content: bytes, draw: random.Random) -> bytes:
    """`content` with one to four things done to it."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        content = draw.choice(_DAMAGES)(content, draw)[:_MOST_BYTES]
    return content


def _flip(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) or 1)
    return content[:at] + bytes([draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))]) + content[at + 1 :]


def _end(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _slice(content: bytes, draw: random.Random) -> bytes:
    """A part left out, doubled or written again elsewhere."""
    a, b, to = sorted(draw.randrange(len(content) + 1) for _ in range(3))
    return draw.choice(
        (content[:a] + content[b:], content[:b] + content[a:], content[:to] + content[a:b] * 3 + content[to:])
    )


def _word(content: bytes, draw: random.Random) -> bytes:
    """A word of text in the place of another."""
    words = list(_WORD.finditer(content[: 1 << 16]))
    if not words:
        return _flip(content, draw)
    found, text = draw.choice(words), draw.choice(_TEXTS)
    return content[: found.start()] + text.encode("utf-8", "surrogateescape") + content[found.end() :]


def _number(content: bytes, draw: random.Random) -> bytes:
    """Eight, four or two bytes as the largest, the smallest or a far number."""
    width = draw.choice((2, 4, 8))
    at = draw.randrange(max(len(content) - width, 1))
    value = draw.choice((0, 1, (1 << (8 * width)) - 1, 1 << (8 * width - 1), draw.getrandbits(8 * width)))
    return content[:at] + value.to_bytes(width, "little") + content[at + width :]


def _line(content: bytes, draw: random.Random) -> bytes:
    """A line out, twice, or in another place."""
    lines = content.split(b"\n")
    at, to = draw.randrange(len(lines)), draw.randrange(len(lines))
    line = lines[at]
    if draw.random() < 0.5:
        del lines[at]
    lines[to:to] = [line] * draw.choice((0, 1, 1, 300))
    return b"\n".join(lines)


def _deep(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    opening = draw.choice((b"[", b"{", b"(", b"{a: ", b'{"a":', b"- ", b"&a [*a, "))
    return content[:at] + opening * draw.choice((1, 50, 20_000)) + content[at:]


_YAML = ("&a [*a]", "*a", "!!python/object:os.system", "2026-01-01", "1:30", "0o17", ".inf", ".nan", "~", "{}")
_TEXTS = (*NUMBERS, *SHAPES, *TEXTS, *_YAML)
_DAMAGES = (_flip, _end, _slice, _word, _word, _word, _number, _line, _deep)


def breach(case: Damaged, place: Path, good: Mapping[str, bytes]) -> str | None:
    """What reading this file breaks, or None. good: contents of the files that can be read."""
    from benchmarks.fuzz.api import at_line

    path = place / "damaged" / case.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(damaged(good[case.name], random.Random(f"{case.name} {case.seed}")))
    try:
        with clock(MOST_S):
            return _unsound(READERS[case.name](path))
    except WaferlineError as error:
        return None if str(error).isprintable() and len(str(error)) <= 700 else "an error that is not one line"
    except TooLong:
        return "over time"
    except BaseException as error:
        return f"{type(error).__name__}{at_line(error)}"


def _unsound(answer: Any) -> str | None:
    """Times, sizes and rates that nothing has."""
    for name, value in getattr(answer, "values", {}).items() if hasattr(answer, "operators") else ():
        numbers = np.asarray(value)
        if (
            name.endswith(("_s", "_bytes"))
            and numbers.dtype.kind == "f"
            and any(math.isnan(v) or v < 0 for v in numbers.flat)
        ):
            return f"believed: {name} is {value}"
    return None


def contents(place: Path) -> dict[str, bytes]:
    """The good files of a place that `places.make` filled."""
    return {name: (place / name).read_bytes() for name in READERS}
