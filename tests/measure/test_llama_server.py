"""Against a real llama.cpp server on loopback, where `llama_cpp` and its server can be imported."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.kernels.random_gguf import RandomModel, write_random_gguf

from waferline.measure.server import Load, Target, measure_server

_NEEDED = ("llama_cpp", "uvicorn", "fastapi", "sse_starlette", "starlette_context", "pydantic_settings")
_MISSING = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
_START_S = 60.0

pytestmark = pytest.mark.skipif(
    bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)} (llama-cpp-python[server])"
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of a random two-layer model, one thread; gone after the tests."""
    folder = tmp_path_factory.mktemp("llama")
    model = write_random_gguf(folder / "tiny.gguf", RandomModel(format="F16", head_format="F16"))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "llama_cpp.server",
        "--model",
        str(model),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    log = (folder / "server.log").open("w")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # Without the last option it cuts a stream short when the next request comes, which the client rightly calls dropped.
    command += ["--n_ctx", "256", "--n_threads", "1", "--interrupt_requests", "false"]
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        _wait(f"http://127.0.0.1:{port}/v1/models", server, folder / "server.log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text()[-1500:]}")
        try:
            if httpx.get(address, timeout=1.0, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start in {_START_S:g} s")


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_llama_cpp_is_measured_to_the_end_of_every_stream(url: str, endpoint: str) -> None:
    target = Target(url, endpoint=endpoint, timeout_s=60.0)
    results = measure_server(
        target, [Load(5, warmups=1), Load(6, concurrency=2, warmups=0)], prompt_tokens=12, output_tokens=8
    )
    for result in results:
        s = result.summary
        assert result.engaged, s
        assert s["error_rate"] == 0.0, s["error_samples"]
        assert 0 < s["ttft_s"]["p50"] <= s["latency_s"]["p50"]
        assert s["output_tokens_per_s"] > 0
        assert s["counted_by"]
