"""Reading the JSON that guidellm writes, as the same summaries that our own client gives.

guidellm (vllm-project/guidellm): `benchmarks[]`, each with its strategy under `args` (up to 0.3) or `config` (later), and
`metrics.<name>.successful` holding mean, median and percentiles; names ending in `_ms` are in milliseconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from waferline.errors import FileFormatError
from waferline.measure.server.statistics import PERCENTILES

_MOST_BYTES = 2**30
_TIMES = {
    "ttft_s": ("time_to_first_token_ms", 1e-3),
    "itl_s": ("inter_token_latency_ms", 1e-3),
    "tpot_s": ("time_per_output_token_ms", 1e-3),
    "latency_s": ("request_latency", 1.0),
}


def read_guidellm(path: Path) -> list[dict[str, Any]]:
    """One summary a benchmark of a guidellm file: `load` beside the figures, seconds throughout.

    Raises: FileFormatError when it cannot be read or is no guidellm report.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FileFormatError(f"larger than {_MOST_BYTES} bytes", where=str(path))
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileFormatError(f"cannot read: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise FileFormatError(f"not JSON: {error}", where=str(path)) from error
    benchmarks = data.get("benchmarks") if isinstance(data, dict) else None
    if not isinstance(benchmarks, list):
        raise FileFormatError("no guidellm report: no list 'benchmarks'", where=str(path))
    return [_summary(b, f"{path}, benchmarks[{i}]") for i, b in enumerate(benchmarks)]


def _summary(benchmark: Any, where: str) -> dict[str, Any]:
    if not isinstance(benchmark, dict) or not isinstance(benchmark.get("metrics"), dict):
        raise FileFormatError("no 'metrics'", where=where)
    metrics = benchmark["metrics"]
    counts = _counts(benchmark)
    summary = {key: _spread(metrics, name, scale, where) for key, (name, scale) in _TIMES.items()}
    made = sum(counts.values())
    return {
        "load": _load(benchmark),
        "requests": made,
        "answered": counts["successful"],
        "error_rate": (made - counts["successful"]) / made if made else 0.0,
        "errors": {k: n for k, n in counts.items() if k != "successful" and n},
        **summary,
        "output_tokens_per_s": _mean(metrics, "output_tokens_per_second", where),
        "requests_per_s": _mean(metrics, "requests_per_second", where),
        "counted_by": ["guidellm"],
    }


def _load(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """Kind of strategy with its number of streams or its rate."""
    for key in ("args", "config"):
        strategy = (benchmark.get(key) or {}).get("strategy")
        if isinstance(strategy, dict):
            return {
                "strategy": strategy.get("type_"),
                "concurrency": strategy.get("streams"),
                "rate_per_s": strategy.get("rate"),
            }
    return {"strategy": None, "concurrency": None, "rate_per_s": None}


def _counts(benchmark: Mapping[str, Any]) -> dict[str, int]:
    """Requests by status; guidellm has moved this from `run_stats` to `metrics` and keeps lists under `requests`."""
    made = (benchmark.get("run_stats") or {}).get("requests_made") or benchmark["metrics"].get("request_totals") or {}
    lists = benchmark.get("requests") or {}
    kinds = ("successful", "incomplete", "errored")
    if any(isinstance(made.get(k), int) for k in kinds):
        return {k: int(made.get(k) or 0) for k in kinds}
    return {k: len(lists.get(k) or []) for k in kinds}


def _spread(metrics: Mapping[str, Any], name: str, scale: float, where: str) -> dict[str, float] | None:
    found = (metrics.get(name) or {}).get("successful")
    if not isinstance(found, dict):
        return None
    percentiles = found.get("percentiles") or {}
    values = {"mean": found.get("mean"), **{f"p{q}": percentiles.get(f"p{q:02d}") for q in PERCENTILES}}
    values["p50"] = values["p50"] if values["p50"] is not None else found.get("median")
    if any(not isinstance(v, int | float) or not math.isfinite(v) for v in values.values()):
        raise FileFormatError(f"'{name}' has no finite mean and percentiles", where=where)
    return {key: float(v or 0.0) * scale for key, v in values.items()}


def _mean(metrics: Mapping[str, Any], name: str, where: str) -> float | None:
    found = (metrics.get(name) or {}).get("successful")
    if not isinstance(found, dict) or not isinstance(found.get("mean"), int | float):
        return None
    return float(found["mean"])
