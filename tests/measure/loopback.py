"""Small OpenAI-compatible servers on loopback: one of known timing, and ones that misbehave in chosen ways."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Writer = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1 with chunked bodies; what it streams is the server's `writer`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self.server.models(self, {})  # type: ignore[attr-defined]

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer at once."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, request))  # type: ignore[attr-defined]
        self.server.writer(self, request)  # type: ignore[attr-defined]

    def start(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, text: str | bytes) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def event(self, payload: Any) -> None:
        self.send("data: " + (payload if isinstance(payload, str) else json.dumps(payload)) + "\n\n")

    def token(self, text: str = "x") -> None:
        chat = self.path.endswith("/chat/completions")
        choice = {"delta": {"content": text}} if chat else {"text": text}
        self.event({"choices": [{**choice, "index": 0}]})

    def finish(self) -> None:
        self.send(b"")  # the empty chunk ends the body


def timed(first_s: float, gap_s: float, *, usage: bool = True, per_chunk: int = 1) -> Writer:
    """Answers as a server of known TTFT and inter-token latency would."""

    def write(handler: Handler, request: dict[str, Any]) -> None:
        tokens, content = request["max_tokens"], request.get("prompt") or request["messages"][0]["content"]
        handler.start()
        due = time.perf_counter() + first_s
        for _ in range(0, tokens, per_chunk):
            time.sleep(max(0.0, due - time.perf_counter()))
            handler.token("x" * per_chunk)
            due += gap_s
        if usage and "stream_options" in request:
            counted = {"prompt_tokens": 2 * len(content.split()), "completion_tokens": tokens}
            handler.event({"choices": [], "usage": counted})
        handler.event("[DONE]")
        handler.finish()

    return write


def stalls(handler: Handler, request: dict[str, Any]) -> None:
    handler.start()
    handler.token()
    time.sleep(3.0)


def trickles(handler: Handler, request: dict[str, Any]) -> None:
    """Always something, never an end."""
    handler.start()
    for _ in range(200):
        handler.token()
        time.sleep(0.12)


def drops(handler: Handler, request: dict[str, Any]) -> None:
    handler.start()
    handler.token()
    handler.close_connection = True
    handler.connection.close()


def ends_early(handler: Handler, request: dict[str, Any]) -> None:
    handler.start()
    handler.token()
    handler.finish()


def rubbish(handler: Handler, request: dict[str, Any]) -> None:
    handler.start()
    handler.event('{"choices": [{"text": "x"')
    handler.finish()


def binary(handler: Handler, request: dict[str, Any]) -> None:
    handler.start()
    handler.send(bytes(range(128, 256)) + b"\n")
    handler.finish()


def web_page(handler: Handler, request: dict[str, Any]) -> None:
    handler.start()
    handler.send("<html>\n<body>It works!</body>\n</html>\n")
    handler.finish()


def wrong_shape(handler: Handler, request: dict[str, Any]) -> None:
    handler.start()
    handler.event({"choices": "none"})
    handler.finish()


def error_event(handler: Handler, request: dict[str, Any]) -> None:
    handler.start()
    handler.event({"error": {"message": "out of memory"}})
    handler.finish()


def endless_line(handler: Handler, request: dict[str, Any]) -> None:
    handler.start()
    for _ in range(40):
        handler.send(b"x" * 2**16)
    handler.finish()


def says_nothing(handler: Handler, request: dict[str, Any]) -> None:
    handler.start()
    handler.event("[DONE]")
    handler.finish()


def answers(status: int, body: bytes = b"", **headers: str) -> Writer:
    """One whole answer, whatever was asked."""
    return lambda handler, request: handler.answer(status, body, **headers)


def lists(name: str) -> Writer:
    """A list with one model of that name."""
    return answers(200, json.dumps({"data": [{"id": name}]}).encode())


def says(*events: Any, text: str = "x", chunks: int = 2) -> Writer:
    """A stream of `chunks` chunks of text, then these events, then its end."""

    def write(handler: Handler, request: dict[str, Any]) -> None:
        handler.start()
        for _ in range(chunks):
            handler.token(text)
        for event in (*events, "[DONE]"):
            handler.event(event)
        handler.finish()

    return write


def counts(completion: Any, prompt: Any = 16, chunks: int = 2) -> Writer:
    """Claims so many tokens for `chunks` one-letter chunks."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return says({"choices": [], "usage": usage}, chunks=chunks)


def compressed(handler: Handler, request: dict[str, Any]) -> None:
    """A gigabyte of blanks in a megabyte, as gzip that nobody asked for."""
    handler.answer(200, BOMB, Content_Encoding="gzip", Content_Type="text/event-stream")


BOMB = gzip.compress(gzip.compress(b" " * 2**26) * 16)  # small here; unfolded once it is still gzip
DEEP = "[" * 100_000
ESCAPES = "\x1b]0;owned\x07\x1b[2J"


def endless(piece: bytes) -> Writer:
    """`piece` again and again, as fast as it is taken, until the other end hangs up."""

    def write(handler: Handler, request: dict[str, Any]) -> None:
        handler.start()
        while True:
            handler.send(piece)

    return write


def drips(handler: Handler, request: dict[str, Any]) -> None:
    """A byte every now and then: always alive, never done."""
    handler.start()
    for byte in b'data: {"choices": [{"text": "' * 20:
        handler.send(bytes([byte]))
        time.sleep(0.05)


def endless_error(handler: Handler, request: dict[str, Any]) -> None:
    handler.send_response(500)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.send(b"no " * 2**14)


def huge_header(handler: Handler, request: dict[str, Any]) -> None:
    handler.answer(200, X_Long="x" * 2**20)


def no_http(handler: Handler, request: dict[str, Any]) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    handler.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    writer: Writer
    models: Writer
    seen: list[tuple[str, dict[str, Any]]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The other end hung up, as it should."""


@contextmanager
def serving(writer: Writer, models: Writer | None = None) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A server on a free loopback port: (base URL, requests seen)."""
    server = _Server(("127.0.0.1", 0), Handler)
    server.writer, server.models, server.seen = writer, models or lists("toy"), []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", server.seen
    finally:
        server.shutdown()
        server.server_close()
