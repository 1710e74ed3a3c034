"""Small OpenAI-compatible servers on loopback: one of known timing, and ones that misbehave in chosen ways."""

from __future__ import annotations

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
        body = json.dumps({"data": [{"id": "toy"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
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
            handler.token()
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
        time.sleep(0.05)


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


def fails(handler: Handler, request: dict[str, Any]) -> None:
    body = b'{"error": "no capacity"}'
    handler.send_response(503)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving(writer: Writer) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A server on a free loopback port: (base URL, requests seen)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.writer, server.seen = writer, []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", server.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
