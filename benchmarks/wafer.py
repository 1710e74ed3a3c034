"""Points per second and core of the wafer closed forms, as a sweep calls them: `python benchmarks/wafer.py [--json]`.

Processor time of one thread is counted, so that other work on the machine does not; the median of five runs is printed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from waferline.machines.hardware import load_hardware
from waferline.predict.wafer.case import make_case
from waferline.predict.wafer.resident import WaferResidentModel
from waferline.predict.wafer.streaming import WeightStreamingModel
from waferline.workloads.spec import Attention, Block, FeedForward, Transformer

POINTS = 1_000_000
RUNS = 5


def llama_8b() -> Transformer:
    block = Block(count=32, mixer=Attention(heads=32, kv_heads=8, head_dim=128), ffn=FeedForward(intermediate=14336))
    return Transformer(name="8b", title="8B", family="llama", hidden_size=4096, vocab_size=128256, blocks=(block,))


def cases() -> dict[str, Callable[[], object]]:
    """What is timed, each over a million scenarios."""
    draw = np.random.default_rng(0)
    length, batch = draw.integers(1, 8192, POINTS), draw.integers(1, 64, POINTS)
    side = draw.integers(240, 750, POINTS).astype(float)
    cs2, cs3, model = load_hardware("cs2"), load_hardware("cs3"), llama_8b()
    case, one = make_case(model, cs2, "fp16"), np.ones(())
    piece = 16384

    def pieces(solve: Callable[[slice], object]) -> Callable[[], object]:
        return lambda: [solve(slice(start, start + piece)) for start in range(0, POINTS, piece)]

    return {
        "decode step on a grid": pieces(lambda s: case.decode(side[s], length[s].astype(float), one)),
        "prefill on a grid": pieces(lambda s: case.prefill(side[s], length[s].astype(float), one)),
        "weight streaming, prefill": lambda: WeightStreamingModel().solve(model, cs3, length, batch),
        "weight streaming, decode": lambda: WeightStreamingModel().solve(model, cs3, length, batch, phase="decode"),
        "wafer resident, given grids": lambda: WaferResidentModel().solve(
            model, cs2, length, prefill_grid=700, decode_grid=360
        ),
    }


def points_per_s(run: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return POINTS / float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    rates = {name: points_per_s(run) for name, run in cases().items()}
    if as_json:
        print(json.dumps({"points_per_s_per_core": rates}))
        return
    for name, rate in rates.items():
        print(f"{name:30s} {rate / 1e6:6.2f} M points/s/core")


if __name__ == "__main__":
    main()
