"""Measuring a server: find it, warm it up, learn how its tokens count, offer each load, and say what came of it."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from waferline.errors import InvalidInputError, RefusedError
from waferline.measure.contract import FEWEST_REPEATS
from waferline.measure.fingerprint import fingerprint
from waferline.measure.server.load import MOST_IN_FLIGHT, Load, offer
from waferline.measure.server.prompt import prompt_of, words_for
from waferline.measure.server.statistics import summarise
from waferline.measure.server.stream import RUBBISH, Answer, Failure, Target, ask, body_of

_MOST_TOKENS = 2**20
_MOST_LIST_BYTES = 2**22  # a router that lists hundreds of models sends half a megabyte
_LONGEST_NAME = 256
_WARMUP_SEED, _SEED_STEP = 10**9, 10**6  # so that no two requests of a session share a prompt
_BAD_REQUEST = ("400", "422")


@dataclass(frozen=True, slots=True)
class ServerResult:
    """One load on one server. Not `engaged`, and without rates, when fewer than five requests were answered, or when one
    answer was a lie: whoever miscounts once is believed nowhere."""

    target: Target
    load: Load
    prompt_tokens: int
    output_tokens: int
    summary: dict[str, Any]
    started: str

    @property
    def engaged(self) -> bool:
        return bool(self.summary["answered"] >= FEWEST_REPEATS and "lying" not in self.summary["errors"])

    def required(self) -> None:
        """Raises: RefusedError when this is no measurement."""
        if not self.engaged:
            raise self.error()

    def error(self) -> RefusedError:
        """The refusal as an error with exit code 4."""
        faults = ", ".join(f"{n} {kind}" for kind, n in self.summary["errors"].items()) or "none sent"
        samples = self.summary["error_samples"]
        sample = next((s for s in samples if s.startswith("lying")), next(iter(samples), ""))
        return RefusedError(
            f"{self.summary['answered']} of {self.summary['requests']} requests were answered, {FEWEST_REPEATS} needed: "
            f"{faults}",
            where=self.target.url,
            hint=sample or None,
        )

    def to_json(self) -> dict[str, Any]:
        """A record as the store keeps it: the summary, the offer, and the machine that asked."""
        s = self.summary
        spread = (s["latency_s"]["p90"] / s["latency_s"]["p50"] - 1.0) if self.engaged else None
        return {
            "engaged": self.engaged,
            "name": f"server {self.target.model or 'default'} {self.load.label}",
            "device": self.target.url,
            "started": self.started,
            "median_s": s["latency_s"]["p50"] if self.engaged else None,
            "spread": spread,
            "repeats": s["answered"],
            "work": {"output_tokens": s["output_tokens"]} if self.engaged else {},
            "rates": {"output_tokens_per_s": s["output_tokens_per_s"]} if self.engaged else {},
            "check": {"reference": "streams followed to their end", "error": s["error_rate"], "tolerance": 1.0},
            "conditions": {"warnings": self.warnings()},
            "machine": fingerprint().to_json(),
            "summary": s,
            "detail": {
                "loop": "closed" if self.load.rate_per_s is None else "open",
                "concurrency": self.load.concurrency,
                "rate_per_s": self.load.rate_per_s,
                "warmups": self.load.warmups,
                "endpoint": self.target.endpoint,
                "evidence": {
                    "model": self.target.model or "unknown",
                    "phase": "serve",
                    "batch": self.load.concurrency if self.load.rate_per_s is None else None,
                    "input_tokens": s["prompt_tokens_mean"] or self.prompt_tokens,
                    "output_tokens": self.output_tokens,
                    "engine": "openai-compatible server",
                    "hardware": "server-at-" + self.target.url.split("//")[-1].split("/")[0],
                },
            },
        }

    def warnings(self) -> list[str]:
        """What a reader must know before using the figures."""
        s, found = self.summary, []
        if s["error_rate"]:
            found.append(f"{s['error_rate']:.1%} of the requests failed")
        if "stream chunks" in s["counted_by"]:
            found.append("tokens are counted as stream chunks: the server sent no usage")
        if s["tokens_per_chunk"] and s["tokens_per_chunk"] > _SEVERAL_TOKENS:
            found.append(f"{s['tokens_per_chunk']:.2f} tokens a chunk: inter-token latency is between chunks")
        if s["answered"] and s["output_tokens"] < _SHORT * s["answered"] * self.output_tokens:
            found.append(f"answers are short: {s['output_tokens'] / s['answered']:.0f} of {self.output_tokens} tokens")
        return found


_SEVERAL_TOKENS, _SHORT = 1.05, 0.95


def measure_server(
    target: Target,
    loads: Sequence[Load],
    *,
    prompt_tokens: int = 512,
    output_tokens: int = 128,
    progress: Callable[[str], None] = lambda what: None,
) -> list[ServerResult]:
    """Offer each load in turn and report on it.

    Raises: RefusedError (exit code 4) when the server does not answer the warm-up; InvalidInputError for impossible sizes.
    """
    for name, value in (("prompt", prompt_tokens), ("output", output_tokens)):
        if not 1 <= value <= _MOST_TOKENS:
            raise InvalidInputError(f"{value} tokens", where=name, hint=f"1 to {_MOST_TOKENS}")
    return asyncio.run(_session(target, list(loads), prompt_tokens, output_tokens, progress))


async def _session(
    target: Target, loads: list[Load], prompt_tokens: int, output_tokens: int, progress: Callable[[str], None]
) -> list[ServerResult]:
    limits = httpx.Limits(max_connections=MOST_IN_FLIGHT, max_keepalive_connections=MOST_IN_FLIGHT)
    results = []
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:
        target = replace(target, model=target.model or await _first_model(client, target))
        progress("warm-up")
        target, words = await _learn(client, target, prompt_tokens, output_tokens)
        for number, load in enumerate(loads):
            progress(load.label)
            results.append(await _run(client, target, load, number, words, prompt_tokens, output_tokens))
    return results


async def _run(
    client: httpx.AsyncClient,
    target: Target,
    load: Load,
    number: int,
    words: int,
    prompt_tokens: int,
    output_tokens: int,
) -> ServerResult:
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    base = (number + 1) * _SEED_STEP

    async def send(i: int) -> Answer | Failure:
        return await ask(client, target, prompt_of(words, base + i), output_tokens)

    for i in range(load.warmups):
        await ask(client, target, prompt_of(words, _WARMUP_SEED + base + i), output_tokens)
    summary = summarise(await offer(load, send))
    return ServerResult(target, load, prompt_tokens, output_tokens, summary, started)


async def _first_model(client: httpx.AsyncClient, target: Target) -> str:
    """The name of the first model the server lists; empty where it lists none.

    Raises: RefusedError for a name that nobody would give a model: it would stand in every record.
    """
    try:
        async with (
            asyncio.timeout(target.stall_s),
            client.stream(
                "GET", target.url.rstrip("/") + "/models", headers=target.headers, timeout=target.stall_s
            ) as answer,
        ):
            listed = json.loads(await body_of(answer, _MOST_LIST_BYTES))["data"]
        name = str(listed[0]["id"]) if listed else ""
    except (httpx.HTTPError, TimeoutError, *RUBBISH):
        return ""
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        raise RefusedError(f"the server calls its model '{name}'", where=target.url, hint="name it with --served-model")
    return name


async def _learn(
    client: httpx.AsyncClient, target: Target, prompt_tokens: int, output_tokens: int
) -> tuple[Target, int]:
    """The first request: whether the server takes the extras, and how many words make a token.

    Raises: RefusedError when it does not answer.
    """
    few = min(output_tokens, 4)
    first = await ask(client, target, prompt_of(prompt_tokens, _WARMUP_SEED), few)
    if isinstance(first, Failure) and first.fault == "http" and first.detail.startswith(_BAD_REQUEST):
        target = replace(target, extras=False)
        first = await ask(client, target, prompt_of(prompt_tokens, _WARMUP_SEED), few)
    if isinstance(first, Failure):
        raise RefusedError(f"the server did not answer ({first.fault})", where=target.url, hint=first.detail or None)
    return target, words_for(prompt_tokens, prompt_tokens, first.prompt_tokens)
