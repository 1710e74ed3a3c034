"""Logs of servers and of load generators, as rows with the columns of a trace and the latencies that they saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_NANO = 1e-9
# Attributes of a request's span, as vLLM and SGLang write them (vLLM `tracing.py: SpanAttributes`).
_SPAN = {
    "gen_ai.usage.prompt_tokens": "prompt_tokens",
    "gen_ai.usage.completion_tokens": "output_tokens",
    "gen_ai.latency.time_to_first_token": "ttft_s",
    "gen_ai.latency.e2e": "e2e_s",
}


def rows_of(data: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The requests of one document, the earliest first; None for a document of another kind.

    Raises: KeyError, TypeError, ValueError, AttributeError, IndexError for one that is not as its kind should be.
    """
    for key, reads in _KINDS.items():
        if key in data:
            return sorted(reads(data), key=lambda row: float(row["arrival_s"]))
    return None


def _bench(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """`vllm bench serve --save-result --save-detailed`; failed requests have no output and no time."""
    count = len(data["input_lens"])
    starts = data.get("start_times") or [0.0] * count
    for start, prompt, output, ttft, itl in zip(
        starts, data["input_lens"], data["output_lens"], data["ttfts"], data["itls"], strict=True
    ):
        if output:
            yield {
                "arrival_s": start,
                "prompt_tokens": prompt,
                "output_tokens": output,
                "ttft_s": ttft,
                "e2e_s": ttft + sum(itl),
            }


def _guidellm(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """guidellm's report; of several benchmarks the first, for the others begin after it."""
    for request in data["benchmarks"][0]["requests"]["successful"]:
        times = (request.get("scheduler_info") or {}).get("request_timings") or request
        start = times.get("request_start", times.get("start_time"))
        end, first = (
            times.get("request_end", times.get("end_time")),
            times.get("first_iteration", times.get("first_token_time")),
        )
        row = {"arrival_s": start, "prompt_tokens": request["prompt_tokens"], "output_tokens": request["output_tokens"]}
        if first is not None and end is not None:
            row |= {"ttft_s": first - start, "e2e_s": end - start}
        yield row


def _spans(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """OpenTelemetry's JSON of a file exporter: spans that count tokens are requests."""
    for resource in data["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                said = {a["key"]: next(iter(a["value"].values())) for a in span.get("attributes", ())}
                row = {name: float(said[key]) for key, name in _SPAN.items() if key in said}
                if "prompt_tokens" in row and "output_tokens" in row:
                    yield {"arrival_s": int(span["startTimeUnixNano"]) * _NANO, **row}


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[dict[str, Any]]]] = {
    "input_lens": _bench,
    "benchmarks": _guidellm,
    "resourceSpans": _spans,
}
