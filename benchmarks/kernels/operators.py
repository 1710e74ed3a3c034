"""Operators beside ggml and beside a plain read of the same memory, interleaved; ratios of medians."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tests.kernels.random_gguf import random_blocks

from benchmarks.kernels.ggml import Ggml
from waferline.kernels.cpu.aligned import aligned_empty
from waferline.kernels.cpu.matmul import Matmul
from waferline.kernels.cpu.packed import PackedMatrix, pack
from waferline.kernels.cpu.threads import use_threads
from waferline.measure.probes.kernels import read_words

WORKING_SET_BYTES = (
    400_000_000  # rotated over, so that weights come from memory (an L3 of a VM may be a larger machine's)
)
PAGE_BYTES = 2 << 20  # huge pages: matrices start on one


@dataclass(frozen=True, slots=True)
class Case:
    """One operator of the table. `least_share` of the read bandwidth and `least_ratio` to llama.cpp are the targets."""

    format: str
    rows: int
    cols: int
    batch: int = 1
    threads: int = 1
    exact: bool = False
    least_share: float | None = None
    least_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one case, seconds per product. `peer` names the fastest ggml kernel, None without llama.cpp; `peers_seconds`
    has them all."""

    case: Case
    seconds: float
    spread: float  # interquartile range over median
    read_bytes_per_s: float
    bytes_per_s: float
    macs_per_s: float
    share: float
    peer: str | None
    peer_seconds: float | None
    ratio: float | None
    peers_seconds: dict[str, float]
    error: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def shared_copies(matrix: PackedMatrix, copies: int) -> tuple[np.ndarray, np.ndarray]:
    """The same matrix several times in one block of memory, as the weights of a model lie: u8[copies, bytes], and as i64."""
    size = matrix.data.size
    block = aligned_empty(copies * size + PAGE_BYTES)
    start = -block.ctypes.data % PAGE_BYTES
    block = block[start : start + copies * size].reshape(copies, size)
    block[:] = matrix.data
    return block, block.reshape(-1)[: copies * size // 8 * 8].view(np.int64)


def run_case(case: Case, ggml: Ggml | None, rounds: int) -> Row:
    """Measure one case; thread CPU time for one thread (the machine may be shared), wall time for more."""
    rng = np.random.default_rng(0)
    data = random_blocks(case.format, case.rows, case.cols, rng, 0.05)
    x = rng.standard_normal((case.batch, case.cols)).astype(np.float32)
    packed = pack(data, case.format, (case.rows, case.cols))
    copies = max(1, WORKING_SET_BYTES // data.nbytes) if case.batch <= 16 else 1
    weights, words = shared_copies(packed, copies)
    product = Matmul(packed, case.batch, case.threads, case.exact)
    y = product(x).copy()
    use_threads(case.threads)
    sums = np.zeros(case.threads, np.int64)
    work: dict[str, Callable[[], Any]] = {
        "ours": lambda: product.in_turn(weights, x),
        "read": lambda: read_words(words, words.size // case.threads, case.threads, sums),
    }
    prepared = {}
    if ggml is not None:
        for kind in ggml.kinds(case.format):
            prepared[kind] = ggml.product(case.format, case.rows, case.cols, data, x, copies, kind)
            work[kind] = lambda kind=kind: ggml.run(prepared[kind], case.threads)  # type: ignore[misc]
    for call in work.values():
        call()
    error = None
    if prepared and ggml is not None:
        expected = ggml.result(next(iter(prepared.values())))
        error = float(np.linalg.norm(y - expected) / np.linalg.norm(expected))
    medians, spread = _interleave(work, rounds, time.thread_time if case.threads == 1 else time.perf_counter)
    for owned in prepared.values():
        ggml.free(owned)  # type: ignore[union-attr]
    return _row(case, data.nbytes, copies, words.nbytes, medians, spread, error)


def _interleave(
    work: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, float], float]:
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, call in work.items():
            start = clock()
            call()
            taken[name].append(clock() - start)
    low, middle, high = np.percentile(taken["ours"], [25, 50, 75])
    return {name: float(np.median(t)) for name, t in taken.items()}, float((high - low) / middle)


def _row(
    case: Case, nbytes: int, copies: int, read_bytes: int, medians: dict[str, float], spread: float, error: float | None
) -> Row:
    seconds = medians["ours"] / copies
    read = read_bytes / medians["read"]
    peers = {name: s / copies for name, s in medians.items() if name not in ("ours", "read")}
    peer = min(peers, key=peers.__getitem__) if peers else None
    peer_seconds = peers[peer] if peer else None
    return Row(
        case, seconds, spread, read, nbytes / seconds, case.batch * case.rows * case.cols / seconds,
        nbytes / seconds / read, peer, peer_seconds, peer_seconds / seconds if peer_seconds else None, peers, error,
    )  # fmt: skip
