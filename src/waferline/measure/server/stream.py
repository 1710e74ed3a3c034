"""One streamed request: when each token arrived, how many there were and who counted them, or what went wrong."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from waferline.errors import InvalidInputError

Fault = Literal["connect", "http", "timeout", "stall", "dropped", "rubbish", "empty"]
CountedBy = Literal["server usage", "stream chunks"]

MOST_LINE_BYTES = 2**20
MOST_ANSWER_BYTES = 2**26
_ENDPOINTS = {"completions": "/completions", "chat": "/chat/completions"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. url: base such as `http://127.0.0.1:8080/v1`. timeout_s: of a whole request; stall_s: between bytes.

    extras: send `ignore_eos` and `stream_options`, which llama.cpp, vLLM and SGLang understand and some others refuse.
    """

    url: str
    model: str = ""
    endpoint: str = "completions"
    timeout_s: float = 120.0
    stall_s: float = 30.0
    extras: bool = True
    key: str = ""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InvalidInputError(f"'{self.url}' is no URL", where="url", hint="such as http://127.0.0.1:8080/v1")
        if self.endpoint not in _ENDPOINTS:
            raise InvalidInputError(f"endpoint '{self.endpoint}'", hint=" or ".join(_ENDPOINTS))
        if self.timeout_s <= 0 or self.stall_s <= 0:
            raise InvalidInputError(f"timeouts of {self.timeout_s:g} s and {self.stall_s:g} s", hint="above 0")

    @property
    def address(self) -> str:
        return self.url.rstrip("/") + _ENDPOINTS[self.endpoint]

    def body(self, prompt: str, output_tokens: int) -> dict[str, Any]:
        """The JSON of one request: greedy, streamed, of fixed length where the server allows it."""
        content: dict[str, Any] = (
            {"messages": [{"role": "user", "content": prompt}]} if self.endpoint == "chat" else {"prompt": prompt}
        )
        extras = {"ignore_eos": True, "stream_options": {"include_usage": True}} if self.extras else {}
        return {
            **content,
            "model": self.model or "default",
            "max_tokens": output_tokens,
            "temperature": 0,
            "stream": True,
            **extras,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that was answered to its end. Times in seconds on one clock; `arrivals` has one entry a chunk with text."""

    started_s: float
    arrivals_s: tuple[float, ...]
    ended_s: float
    output_tokens: int
    prompt_tokens: int | None
    counted_by: CountedBy

    @property
    def ttft_s(self) -> float:
        return self.arrivals_s[0] - self.started_s

    @property
    def latency_s(self) -> float:
        return self.ended_s - self.started_s

    @property
    def tpot_s(self) -> float | None:
        """Mean time per output token after the first; None for a single token."""
        if self.output_tokens < 2:
            return None
        return (self.arrivals_s[-1] - self.arrivals_s[0]) / (self.output_tokens - 1)

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Time between one chunk and the next: the inter-token latency where chunks are tokens."""
        return tuple(b - a for a, b in zip(self.arrivals_s, self.arrivals_s[1:], strict=False))


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not: what kind of fault, when, and the server's words."""

    started_s: float
    ended_s: float
    fault: Fault
    detail: str


@dataclass(slots=True)
class _Stream:
    """What has been read of one stream so far."""

    arrivals: list[float]
    usage: dict[str, Any]
    finished: bool = False

    def take(self, payload: str, now_s: float) -> None:
        """One `data:` payload. Raises: ValueError for what is no event of this protocol."""
        if payload == "[DONE]":
            self.finished = True
            return
        event = json.loads(payload)
        if not isinstance(event, dict):
            raise ValueError("an event that is no object")
        if "error" in event:
            raise ValueError(f"an error event: {str(event['error'])[:200]}")
        if isinstance(event.get("usage"), dict):
            self.usage = event["usage"]
        choices = event.get("choices", [])
        if not isinstance(choices, list) or (not choices and "usage" not in event):
            raise ValueError("an event without choices")
        for choice in choices:
            delta = choice.get("delta") or {}
            if choice.get("text") or delta.get("content") or delta.get("reasoning_content"):
                self.arrivals.append(now_s)
            self.finished = self.finished or choice.get("finish_reason") is not None


async def ask(client: httpx.AsyncClient, target: Target, prompt: str, output_tokens: int) -> Answer | Failure:
    """Send one request and follow its stream to the end. Every way to fail is a `Failure`; nothing is raised."""
    started = time.perf_counter()

    def failed(fault: Fault, detail: object) -> Failure:
        return Failure(started, time.perf_counter(), fault, " ".join(str(detail).split())[:300])

    stream = _Stream([], {})
    try:
        async with asyncio.timeout(target.timeout_s):
            await _follow(client, target, target.body(prompt, output_tokens), stream)
    except _HttpError as error:
        return failed("http", error)
    except TimeoutError:
        return failed("timeout", f"no end after {target.timeout_s:g} s, {len(stream.arrivals)} chunks so far")
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        return failed("connect", error)
    except httpx.TimeoutException:
        return failed("stall", f"nothing for {target.stall_s:g} s, {len(stream.arrivals)} chunks so far")
    except httpx.HTTPError as error:
        return failed("dropped", f"{type(error).__name__} after {len(stream.arrivals)} chunks: {error}")
    except (ValueError, TypeError, AttributeError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return failed("rubbish", error)
    if not stream.finished:
        return failed("dropped", f"the stream ended without an end after {len(stream.arrivals)} chunks")
    if not stream.arrivals:
        return failed("empty", "the answer has no text")
    return _answer(started, stream)


def _answer(started: float, stream: _Stream) -> Answer:
    counted = stream.usage.get("completion_tokens")
    by_server = isinstance(counted, int) and counted >= 1
    prompt = stream.usage.get("prompt_tokens")
    return Answer(
        started_s=started,
        arrivals_s=tuple(stream.arrivals),
        ended_s=time.perf_counter(),
        output_tokens=int(counted) if by_server and isinstance(counted, int) else len(stream.arrivals),
        prompt_tokens=prompt if isinstance(prompt, int) else None,
        counted_by="server usage" if by_server else "stream chunks",
    )


class _HttpError(Exception):
    pass


async def _follow(client: httpx.AsyncClient, target: Target, body: dict[str, Any], stream: _Stream) -> None:
    headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}
    limits = httpx.Timeout(target.stall_s)
    async with client.stream("POST", target.address, json=body, headers=headers, timeout=limits) as response:
        if response.status_code != httpx.codes.OK:
            text = (await response.aread())[:300].decode("utf-8", "replace")
            raise _HttpError(f"{response.status_code}: {text}")
        async for line in _lines(response):
            if line.startswith("data:"):
                stream.take(line[5:].strip(), time.perf_counter())
            elif line and not line.startswith((":", "event:", "id:", "retry:")):
                raise ValueError(f"a line that is no event: {line[:80]!r}")


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """Lines as they arrive. Raises: ValueError when a line or the answer is longer than any real one."""
    rest, total = b"", 0
    async for piece in response.aiter_bytes():
        total += len(piece)
        rest += piece
        if len(rest) > MOST_LINE_BYTES or total > MOST_ANSWER_BYTES:
            raise ValueError("an endless answer")
        *whole, rest = rest.split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r").decode("utf-8")
    if rest.strip():
        yield rest.decode("utf-8")
