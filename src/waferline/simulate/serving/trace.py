"""Requests as they really came: traces of several forms, read once into columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from waferline.arrays import AnyArray
from waferline.catalog.table_file import records_of, text_lines
from waferline.catalog.text_file import read_text
from waferline.errors import FileFormatError
from waferline.simulate.serving.lengths import MOST_TOKENS
from waferline.simulate.serving.logs import rows_of
from waferline.simulate.serving.servegen import ENDING, read_client
from waferline.simulate.serving.traffic import MOST_REQUESTS

# Column → the spellings of published traces: our own, Azure's (2023, 2024), BurstGPT's, Mooncake's, vLLM's and guidellm's.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "arrival_s": ("arrival_s", "arrived_at", "timestamp", "start_time", "request_start_time"),
    "prompt_tokens": (
        "prompt_tokens", "num_prefill_tokens", "input_toks", "contexttokens", "request tokens", "input_length", "input_tokens",
        "prompt_len",
    ),
    "output_tokens": (
        "output_tokens", "num_decode_tokens", "output_toks", "generatedtokens", "response tokens", "output_length", "output_len",
    ),
    "block_hashes": ("block_hashes", "hash_ids"),
}  # fmt: skip
SEEN = ("ttft_s", "e2e_s")  # latencies that a log may state
_REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")
BLOCK_TOKENS = 512  # that a block hash of a published trace stands for (Mooncake)
_LINE_BYTES = 10_000_000
_FILE_BYTES = 2_000_000_000
_MILLISECONDS = "input_length"  # Mooncake's own files count their times in milliseconds


def read_trace(path: str | Path) -> dict[str, AnyArray]:
    """The columns of a `.csv`, `.csv.gz` or `.jsonl` trace, or of a log in JSON (`logs`); times begin at 0 and must not fall.

    Latencies that all requests state are columns, too (`SEEN`). A client of ServeGen's is drawn (`servegen`).

    Raises: FileFormatError naming the row.
    """
    path, found = Path(path), []
    if path.name.endswith(ENDING) and _is_client(path):
        return read_client(path, MOST_REQUESTS)
    for number, row in enumerate(_records(path), start=1):
        if number > MOST_REQUESTS:
            raise FileFormatError(f"more than {MOST_REQUESTS:,} requests", where=str(path))
        found.append(_request(row, number, path))
    if not found:
        raise FileFormatError("the trace has no requests", where=str(path))
    arrival = np.array([f[0] for f in found])
    early = np.flatnonzero(np.diff(arrival) < 0.0)
    if early.size:
        raise FileFormatError(f"row {early[0] + 2}: it comes before the row above it", where=str(path))
    columns: dict[str, AnyArray] = {
        "arrival_s": arrival - arrival[0],
        "prompt_tokens": np.array([f[1] for f in found]),
        "output_tokens": np.array([f[2] for f in found]),
    }
    columns |= {name: np.array([f[4][name] for f in found]) for name in SEEN if all(name in f[4] for f in found)}
    if any(f[3] for f in found):
        hashes = np.empty(len(found), dtype=object)
        hashes[:] = [f[3] for f in found]
        columns |= {"block_hashes": hashes, "block_tokens": np.array(BLOCK_TOKENS)}
    return columns


def _is_client(path: Path) -> bool:
    """Whether it begins with a window of a client, not with names of columns."""
    return next(iter(text_lines(path, _LINE_BYTES)), "")[:1].isdigit()


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    """Rows with the names of `COLUMNS`."""
    if ".jsonl" not in path.suffixes and path.suffix != ".json":
        yield from (_named(row, path) for _, row in records_of(path, _LINE_BYTES))
        return
    lines = text_lines(path, _LINE_BYTES) if ".jsonl" in path.suffixes else _documents(path)
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            raise FileFormatError(f"row {number}: not a line of JSON", where=str(path)) from None
        if not isinstance(data, dict):
            raise FileFormatError(f"row {number}: not a mapping", where=str(path))
        try:
            requests = rows_of(data)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise FileFormatError(f"row {number}: a log that lacks {error}", where=str(path)) from None
        for row in [data] if requests is None else requests:
            yield _named(row, path)


def _documents(path: Path) -> list[str]:
    """Text of one document, or of a document a line."""
    text = read_text(path, _FILE_BYTES)
    return [text] if text.lstrip()[:2] == "{\n" or text.count("\n") < 2 else text.splitlines()


def _named(row: Mapping[Any, Any], path: Path) -> dict[str, Any]:
    by_name = {str(key).strip().lower(): value for key, value in row.items()}
    found = {
        column: next((by_name[s] for s in spellings if s in by_name), None) for column, spellings in COLUMNS.items()
    }
    for column in _REQUIRED:
        if found[column] is None:
            raise FileFormatError(
                f"no column for {column}", where=str(path), hint="known: " + ", ".join(COLUMNS[column])
            )
    found["seen"] = {name: by_name[name] for name in SEEN if by_name.get(name) not in (None, "")}
    found["scale"] = 1e-3 if _MILLISECONDS in by_name else 1.0
    return found


def _request(
    row: Mapping[str, Any], number: int, path: Path
) -> tuple[float, int, int, tuple[int, ...], dict[str, float]]:
    where = str(path)
    try:
        arrival = _seconds(row["arrival_s"]) * row["scale"]
        prompt, output = (int(float(row[name])) for name in _REQUIRED[1:])
        hashes = row["block_hashes"]
        blocks = tuple(int(h) for h in (hashes.split() if isinstance(hashes, str) else hashes or ()))
        seen = {name: float(value) for name, value in row["seen"].items()}
    except (TypeError, ValueError, OverflowError):
        raise FileFormatError(f"row {number}: not a time and two numbers of tokens", where=where) from None
    if not (np.isfinite(arrival) and 1 <= prompt <= MOST_TOKENS and 0 <= output <= MOST_TOKENS):
        raise FileFormatError(f"row {number}: {prompt} prompt and {output} output tokens at {arrival:g} s", where=where)
    return arrival, prompt, max(output, 1), blocks, seen  # a request that made no token read its prompt all the same


def _seconds(text: Any) -> float:
    """A number, or a date and time as Azure's traces have it."""
    try:
        return float(text)
    except ValueError:
        if not str(text).strip()[:1].isdigit():  # NumPy takes words, too: `now`
            raise
        return float(np.datetime64(str(text).strip().replace(" ", "T"), "us").astype(np.int64)) * 1e-6
