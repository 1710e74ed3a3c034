"""Two small studies: table look-up against unpacking at 1 to 4 bits, and three softmax algorithms by array size."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from tests.kernels.random_gguf import random_blocks

from waferline.kernels.cpu import lut
from waferline.kernels.cpu.matmul import Matmul
from waferline.kernels.cpu.packed import pack
from waferline.kernels.cpu.softmax import ALGORITHMS

SOFTMAX_BYTES = (1 << 15, 1 << 18, 1 << 21, 1 << 25, 1 << 27)  # of the input: from L1-sized to far beyond caches


def _median(work: Any, rounds: int) -> float:
    work()
    taken = []
    for _ in range(rounds):
        start = time.thread_time()
        work()
        taken.append(time.thread_time() - start)
    return float(np.median(taken))


def look_up_rows(rows: int = 4096, cols: int = 4096, rounds: int = 15) -> list[dict[str, Any]]:
    """Weights per second of the exact look-up kernel, and of unpacking kernels of similar width, one thread."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(cols).astype(np.float32)
    scale = np.ones((rows, cols // 128), np.float32)
    out = []
    for bits in (1, 2, 3, 4):
        matrix = lut.pack_codes(rng.integers(0, 1 << bits, (rows, cols), dtype=np.uint8), bits, scale, scale)
        seconds = _median(lambda m=matrix: lut.matvec(m, x), rounds)  # type: ignore[misc]
        out.append({"kernel": f"look-up {bits} bit, f32 activations", "weights_per_s": rows * cols / seconds})
    for name in ("TQ2_0", "Q4_0", "Q4_K"):
        packed = pack(random_blocks(name, rows, cols, rng, 0.05), name, (rows, cols))
        for exact in (False, True):
            product = Matmul(packed, 1, 1, exact)
            seconds = _median(lambda p=product: p(x[None]), rounds)  # type: ignore[misc]
            activations = "f32" if exact else "int8"
            out.append({"kernel": f"unpack {name}, {activations} activations", "weights_per_s": rows * cols / seconds})
    return out


def softmax_rows(rounds: int = 9) -> list[dict[str, Any]]:
    """Elements per second of each softmax by input size, one thread, interleaved."""
    out = []
    for size in SOFTMAX_BYTES:
        x = np.random.default_rng(0).uniform(-1000, 1000, size // 4).astype(np.float32)
        y = np.empty_like(x)
        repeats = max(1, (1 << 24) // size)
        taken: dict[str, list[float]] = {name: [] for name in ALGORITHMS}
        for round_ in range(rounds + 1):
            for name, algorithm in ALGORITHMS.items():
                start = time.thread_time()
                for _ in range(repeats):
                    algorithm(x, y)
                if round_:
                    taken[name].append(time.thread_time() - start)
        rates = {name: x.size * repeats / float(np.median(t)) for name, t in taken.items()}
        out.append({"input_bytes": size, **rates})
    return out
