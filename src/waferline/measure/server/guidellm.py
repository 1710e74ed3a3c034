"""Reading the JSON that guidellm writes, as the same summaries that our own client gives.

guidellm (vllm-project/guidellm): `benchmarks[]`, each with its strategy under `args` (up to 0.3) or `config` (later), and
`metrics.<name>.successful` holding mean, median and percentiles; names ending in `_ms` are in milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from reprlib import repr as shown
from typing import Any

from waferline.catalog.text_file import parse_json, read_text
from waferline.errors import FileFormatError
from waferline.measure.server.statistics import PERCENTILES

_MOST_BYTES = 2**27  # ten thousand requests with their prompts take some 50 MB
_MOST_NUMBER = 1e300
_TIMES = {
    "ttft_s": ("time_to_first_token_ms", 1e-3),
    "itl_s": ("inter_token_latency_ms", 1e-3),
    "tpot_s": ("time_per_output_token_ms", 1e-3),
    "latency_s": ("request_latency", 1.0),
}


def read_guidellm(path: Path) -> list[dict[str, Any]]:
    """One summary a benchmark of a guidellm file: `load` beside the figures, seconds throughout.

    Raises: FileFormatError when it cannot be read, is no guidellm report, or holds anything that is not what its name says.
    """
    data = parse_json(read_text(path, _MOST_BYTES), str(path))
    benchmarks = data.get("benchmarks") if isinstance(data, dict) else None
    if not isinstance(benchmarks, list):
        raise FileFormatError("no guidellm report: no list 'benchmarks'", where=str(path))
    return [_summary(_Section(b, f"{path}, benchmarks[{i}]")) for i, b in enumerate(benchmarks)]


class _Section:
    """An object of the file with typed access; a key that is missing or null is an empty section or None."""

    def __init__(self, values: Any, where: str) -> None:
        self.where = where
        if values is not None and not isinstance(values, dict):
            raise FileFormatError("no object", where=where)
        self.values: dict[str, Any] = values or {}

    def at(self, *keys: str) -> _Section:
        key, *rest = keys
        found = _Section(self.values.get(key), f"{self.where}.{key}")
        return found.at(*rest) if rest else found

    def number(self, key: str) -> float | None:
        """A finite number of at least 0."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _MOST_NUMBER:
            raise FileFormatError(f"'{key}' is {shown(value)}, no finite number of at least 0", where=self.where)
        return float(value)

    def count(self, key: str) -> int | None:
        """A whole number, or the length of a list in its place."""
        value = self.values.get(key)
        found = len(value) if isinstance(value, list) else self.number(key)
        if found is not None and found != int(found):
            raise FileFormatError(f"'{key}' is {shown(value)}, no count", where=self.where)
        return None if found is None else int(found)


def _summary(benchmark: _Section) -> dict[str, Any]:
    metrics = benchmark.at("metrics")
    if not metrics.values:
        raise FileFormatError("no 'metrics'", where=benchmark.where)
    counts = _counts(benchmark)
    made = sum(counts.values())
    return {
        "load": _load(benchmark),
        "requests": made,
        "answered": counts["successful"],
        "error_rate": (made - counts["successful"]) / made if made else 0.0,
        "errors": {k: n for k, n in counts.items() if k != "successful" and n},
        **{key: _spread(metrics.at(name, "successful"), scale) for key, (name, scale) in _TIMES.items()},
        "output_tokens_per_s": metrics.at("output_tokens_per_second", "successful").number("mean"),
        "requests_per_s": metrics.at("requests_per_second", "successful").number("mean"),
        "counted_by": ["guidellm"],
    }


def _load(benchmark: _Section) -> dict[str, Any]:
    """Kind of strategy with its number of streams or its rate."""
    said = (benchmark.at(key, "strategy") for key in ("args", "config"))
    strategy = next((s for s in said if s.values), _Section(None, benchmark.where))
    kind = strategy.values.get("type_")
    if kind is not None and not isinstance(kind, str):
        raise FileFormatError(f"'type_' is {shown(kind)}, no text", where=strategy.where)
    return {"strategy": kind, "concurrency": strategy.count("streams"), "rate_per_s": strategy.number("rate")}


def _counts(benchmark: _Section) -> dict[str, int]:
    """Requests by status; guidellm has moved this from `run_stats` to `metrics` and keeps lists under `requests`."""
    kinds = ("successful", "incomplete", "errored")
    for keys in (("run_stats", "requests_made"), ("metrics", "request_totals"), ("requests",)):
        found = {k: benchmark.at(*keys).count(k) for k in kinds}
        if any(n is not None for n in found.values()):
            break
    return {k: n or 0 for k, n in found.items()}


def _spread(found: _Section, scale: float) -> dict[str, float] | None:
    """Mean and percentiles times `scale`; None where the file has none."""
    if not found.values:
        return None
    percentiles = found.at("percentiles")
    values = {"mean": found.number("mean"), **{f"p{q}": percentiles.number(f"p{q:02d}") for q in PERCENTILES}}
    values["p50"] = values["p50"] if values["p50"] is not None else found.number("median")
    if None in values.values():
        raise FileFormatError("no mean and percentiles", where=found.where)
    return {key: (v or 0.0) * scale for key, v in values.items()}
