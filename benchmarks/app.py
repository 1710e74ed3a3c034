"""The app under 20 users at once: each asks one question after the other, nearly all of them new. `python -m benchmarks.app`

Server and users share this machine; a user waits for an answer before the next question, and thinks not at all. CPU time of an
answer and the load of the machine say what the percentiles owe to others who work on it.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import psutil

RESULTS = Path(__file__).parent / "results" / "app.json"
USERS, QUESTIONS, MOST_P95_S = 20, 25, 0.5
MODELS = ("llama-3-8b", "llama-3-70b", "mixtral-8x7b", "qwen3-8b", "gemma-3-4b")
MACHINES = ("h100", "h200", "mi300x", "l40s", "rtx-4090")


def question(draw: random.Random) -> str:
    """Nine of ten are Explore with other numbers, one is Compare."""
    size = {"batch": draw.randint(1, 64), "prompt": draw.randint(200, 8000), "output": draw.randint(16, 512)}
    if draw.random() < 0.9:
        return "/explore?" + urlencode({"model": draw.choice(MODELS), "on": draw.choice(MACHINES), **size})
    return "/compare?" + urlencode({"model": draw.choice(MODELS), **size})


def user(home: str, seed: int, took: list[float]) -> None:
    """One user's questions, and how long each answer took."""
    draw = random.Random(seed)
    for _ in range(QUESTIONS):
        began = time.perf_counter()
        with urllib.request.urlopen(home + question(draw)) as answer:
            answer.read()
        took.append(time.perf_counter() - began)


def measure() -> dict[str, float]:
    """Percentiles over all users. Raises: as urllib for an answer that is none."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "waferline", "app", "--port", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{home}/compare").close()
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        user(home, -1, [])  # the first answers read facts
        took: list[float] = []
        process = psutil.Process(server.pid)
        before = process.cpu_times()
        began = time.perf_counter()
        users = [threading.Thread(target=user, args=(home, seed, took)) for seed in range(USERS)]
        for one in users:
            one.start()
        for one in users:
            one.join()
        whole = time.perf_counter() - began
        after = process.cpu_times()
    finally:
        server.terminate()
        server.wait()
    p50, p95 = np.percentile(took, (50, 95))
    cpu = (after.user + after.system - before.user - before.system) / len(took)
    return {
        "users": USERS, "answers": len(took), "p50_s": float(p50), "p95_s": float(p95), "answers_per_s": len(took) / whole,
        "cpu_s_per_answer": cpu, "load": psutil.getloadavg()[0],
    }  # fmt: skip


def main() -> int:
    """Measure, print, and with --write keep; 1 where the 95th percentile is above its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    found = measure()
    print(", ".join(f"{name} {value:.3g}" for name, value in found.items()))
    if parser.parse_args().write:
        RESULTS.write_text(json.dumps({k: round(v, 4) for k, v in found.items()}, indent=1) + "\n", encoding="utf-8")
    return int(found["p95_s"] > MOST_P95_S)


if __name__ == "__main__":
    sys.exit(main())
