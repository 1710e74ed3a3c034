"""One streamed request: when each token arrived, how many there were and who counted them, or what went wrong.

Nothing that a server says is believed unseen. Bodies, lines, nesting and time are bounded, bodies must come as they are (a few
compressed bytes can unfold to gigabytes), and a count of tokens has to agree with the stream it counts.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from waferline.errors import InvalidInputError
from waferline.text import one_line

Fault = Literal["connect", "http", "timeout", "stall", "dropped", "rubbish", "empty", "lying"]
CountedBy = Literal["server usage", "stream chunks"]

MOST_LINE_BYTES = 2**20
MOST_ANSWER_BYTES = 2**26
MOST_ERROR_BYTES = 2**12
# What reading a body of somebody's own making may raise; UnicodeDecodeError and JSONDecodeError are ValueErrors.
RUBBISH = (ValueError, TypeError, AttributeError, KeyError, RecursionError)
# A common English word is one token of most vocabularies and at most one a byte, beside what a template adds.
_MOST_TOKENS_A_WORD, _TEMPLATE_TOKENS = 12, 2**14
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
        try:
            url = httpx.URL(self.url)
            known = url.scheme in ("http", "https") and url.host and (url.port or 0) < 2**16
        except (httpx.InvalidURL, ValueError):
            known = False
        if not known:
            raise InvalidInputError(f"'{self.url}' is no URL", where="url", hint="such as http://127.0.0.1:8080/v1")
        if self.endpoint not in _ENDPOINTS:
            raise InvalidInputError(f"endpoint '{self.endpoint}'", hint=" or ".join(_ENDPOINTS))
        if not (0 < self.timeout_s < math.inf and 0 < self.stall_s < math.inf):
            raise InvalidInputError(f"timeouts of {self.timeout_s:g} s and {self.stall_s:g} s", hint="above 0")
        if not (self.key.isascii() and self.key.isprintable()):
            raise InvalidInputError("an API key is printable ASCII", where="key")

    @property
    def address(self) -> str:
        return self.url.rstrip("/") + _ENDPOINTS[self.endpoint]

    @property
    def headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return {"Accept-Encoding": "identity", **key}

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


class Lie(ValueError):
    """A figure of the server's that its own stream contradicts."""


@dataclass(slots=True)
class _Stream:
    """What has been read of one stream so far. A chunk is an event with a choice; `text_bytes` is of all text in them."""

    asked: int
    arrivals: list[float] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    chunks: int = 0
    text_bytes: int = 0
    finished: bool = False

    def take(self, payload: str, now_s: float) -> None:
        """One `data:` payload. Raises: one of `RUBBISH` for what is no event of this protocol, Lie for text without end."""
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
        if len(choices) > 1:
            raise ValueError(f"{len(choices)} choices where one was asked for")
        for choice in choices:
            delta = choice.get("delta") or {}
            text = choice.get("text") or delta.get("content") or delta.get("reasoning_content")
            self.chunks += 1
            if text:
                self.arrivals.append(now_s)
                self.text_bytes += len(text.encode("utf-8", "surrogatepass"))
            self.finished = self.finished or choice.get("finish_reason") is not None
        if len(self.arrivals) > self.asked + 1:  # what a tokenizer held back may come as a chunk of its own
            raise Lie(f"more than {self.asked} chunks of text, {self.asked} tokens were asked for")

    def output_tokens(self) -> tuple[int, CountedBy]:
        """The server's count, where it has one that can be: a token is a byte of text or a chunk of its own, at least, and no
        chunk of text is less than a token. Raises: Lie."""
        counted = self.usage.get("completion_tokens")
        if counted is None:
            return min(len(self.arrivals), self.asked), "stream chunks"
        most = min(self.asked, self.text_bytes + self.chunks)
        if type(counted) is not int or not max(1, len(self.arrivals) - 1) <= counted <= most:
            raise Lie(
                f"the server counts {_said(counted)} tokens in {len(self.arrivals)} chunks of text with {self.text_bytes} bytes, "
                f"{self.asked} were asked for"
            )
        return counted, "server usage"

    def prompt_tokens(self, prompt: str) -> int | None:
        """The server's count of the prompt. Raises: Lie for one that no tokenizer could make of it."""
        counted, words = self.usage.get("prompt_tokens"), len(prompt.split())
        if counted is None:
            return None
        if type(counted) is not int or not words / 2 <= counted <= words * _MOST_TOKENS_A_WORD + _TEMPLATE_TOKENS:
            raise Lie(f"the server counts {_said(counted)} tokens in a prompt of {words} words")
        return counted


def _said(count: Any) -> str:
    return f"{count:g}" if isinstance(count, int | float) and abs(count) < 1e300 else repr(count)[:20]


async def ask(client: httpx.AsyncClient, target: Target, prompt: str, output_tokens: int) -> Answer | Failure:
    """Send one request and follow its stream to the end. Every way to fail is a `Failure`; nothing is raised."""
    started = time.perf_counter()

    def failed(fault: Fault, detail: object) -> Failure:
        return Failure(started, time.perf_counter(), fault, one_line(" ".join(str(detail).split()), 300))

    stream = _Stream(output_tokens)
    try:
        async with asyncio.timeout(target.timeout_s):
            await _follow(client, target, target.body(prompt, output_tokens), stream)
        if not stream.finished:
            return failed("dropped", f"the stream ended without an end after {len(stream.arrivals)} chunks")
        if not stream.arrivals:
            return failed("empty", "the answer has no text")
        tokens, by = stream.output_tokens()
        prompt_tokens = stream.prompt_tokens(prompt)
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
    except Lie as error:
        return failed("lying", error)
    except RUBBISH as error:
        return failed("rubbish", error)
    return Answer(started, tuple(stream.arrivals), time.perf_counter(), tokens, prompt_tokens, by)


class _HttpError(Exception):
    pass


async def _follow(client: httpx.AsyncClient, target: Target, body: dict[str, Any], stream: _Stream) -> None:
    limits = httpx.Timeout(target.stall_s)
    async with client.stream("POST", target.address, json=body, headers=target.headers, timeout=limits) as response:
        if response.status_code != httpx.codes.OK:
            text = (await body_of(response, MOST_ERROR_BYTES, whole=False))[:300].decode("utf-8", "replace")
            raise _HttpError(f"{response.status_code}: {text}")
        async for line in _lines(response):
            if line.startswith("data:"):
                stream.take(line[5:].strip(), time.perf_counter())
            elif line and not line.startswith((":", "event:", "id:", "retry:")):
                raise ValueError(f"a line that is no event: {line[:80]!r}")


async def _pieces(response: httpx.Response, most_bytes: int) -> AsyncIterator[bytes]:
    """A body as it arrives. Raises: ValueError for a compressed one, nobody asked for that, or one longer than `most_bytes`."""
    coding = response.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise ValueError(f"a compressed answer ({coding[:20]})")
    total = 0
    async for piece in response.aiter_raw():
        total += len(piece)
        if total > most_bytes:
            raise ValueError("an endless answer")
        yield piece


async def body_of(response: httpx.Response, most_bytes: int, *, whole: bool = True) -> bytes:
    """The first `most_bytes` of a body. Raises: ValueError where it is longer, or compressed, and the `whole` was wanted."""
    found = b""
    try:
        async for piece in _pieces(response, most_bytes):
            found += piece
    except ValueError:
        if whole:
            raise
    return found[:most_bytes]


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """Lines as they arrive. Raises: ValueError when a line or the answer is longer than any real one."""
    rest = b""
    async for piece in _pieces(response, MOST_ANSWER_BYTES):
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > MOST_LINE_BYTES:
            raise ValueError("an endless line")
        for line in whole:
            yield line.rstrip(b"\r").decode("utf-8")
    if rest.strip():
        yield rest.decode("utf-8")
