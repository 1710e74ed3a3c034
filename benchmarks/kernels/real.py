"""A real model beside llama.cpp: `python -m benchmarks.kernels.real FILE.gguf [--write]` (llama-cpp-cffi has the library).

Greedy tokens of several prompts, the logits along the same tokens, and tokens per second, engines in turn. Activations are
rounded to eight bits in other blocks here than there: logits agree to some percent, and greedy texts may part where two
tokens are as likely as each other.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from waferline.kernels import runner

PROMPTS = (
    "The capital of France is",
    "1, 2, 3, 4, 5,",
    "The quick brown fox jumps over the",
    "It was the best of times, it was the worst of times,",
    "def fibonacci(n):",
    "Water boils at a temperature of",
)
TOKENS = 16
RESULT = Path(__file__).parents[1] / "results" / "real_model.json"


class Peer:
    """llama.cpp's library over the same file."""

    def __init__(self, path: Path, threads: int) -> None:
        from llama import _llama_cpp_cpu as built  # type: ignore[import-not-found]

        self.ffi, self.lib = built.ffi, built.lib
        self.lib.llama_backend_init()
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), self.lib.llama_model_default_params())
        asked = self.lib.llama_context_default_params()
        asked.n_ctx, asked.n_threads, asked.n_threads_batch = 1024, threads, threads
        self.context = self.lib.llama_init_from_model(self.model, asked)
        self.vocabulary = self.lib.llama_model_get_vocab(self.model)
        self.size = self.lib.llama_vocab_n_tokens(self.vocabulary)
        self.system = self.ffi.string(self.lib.llama_print_system_info()).decode().strip(" |")

    def tokens(self, text: str) -> list[int]:
        room = self.ffi.new("int32_t[]", 1024)
        data = text.encode()
        return list(room[0 : self.lib.llama_tokenize(self.vocabulary, data, len(data), room, 1024, True, True)])

    def forget(self) -> None:
        self.lib.llama_kv_self_clear(self.context)

    def logits(self, tokens: list[int]) -> np.ndarray:
        """Of the token after `tokens`, which follow those seen before."""
        kept = self.ffi.new("int32_t[]", tokens)  # the batch only points to them
        if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(kept, len(tokens))):
            raise RuntimeError("llama_decode failed")
        row = self.lib.llama_get_logits_ith(self.context, -1)
        return np.frombuffer(self.ffi.buffer(row, 4 * self.size), np.float32).copy()


def compare(path: Path, threads: int) -> dict[str, Any]:
    """Both engines over every prompt, each token of llama.cpp's greedy text fed to both."""
    ours, peer = runner.load(path, threads=threads, context=1024), Peer(path, threads)
    runner.warm_up(ours, 64)
    rows, seconds = [], {"prefill": [[], []], "decode": [[], []]}  # type: ignore[var-annotated]
    for prompt in PROMPTS:
        tokens = ours.encode(prompt)
        assert tokens == peer.tokens(prompt), "the tokenizers differ"
        ours.reset()
        peer.forget()
        pair = [ours.prefill(tokens), peer.logits(tokens)]
        correlations, agree, margins = [], [], []
        for _ in range(TOKENS):
            best = [int(np.argmax(x)) for x in pair]
            agree.append(best[0] == best[1])
            correlations.append(float(np.corrcoef(*pair)[0, 1]))
            if best[0] != best[1]:  # how sure llama.cpp was of its own
                margins.append(float(pair[1][best[1]] - pair[1][best[0]]))
            started = time.perf_counter()
            one = ours.decode(best[1])
            between = time.perf_counter()
            pair = [one, peer.logits([best[1]])]
            seconds["decode"][0].append(between - started)
            seconds["decode"][1].append(time.perf_counter() - between)
        text = {"prompt": prompt, "tokens": TOKENS, "same": int(sum(agree)), "margins": margins}
        rows.append(
            {**text, "correlation_least": min(correlations), "correlation_median": float(np.median(correlations))}
        )
    long = (ours.encode(" ".join(PROMPTS)) * 4)[:128]
    for _ in range(3):
        ours.reset()
        peer.forget()
        started = time.perf_counter()
        ours.prefill(long)
        between = time.perf_counter()
        peer.logits(long)
        seconds["prefill"][0].append(between - started)
        seconds["prefill"][1].append(time.perf_counter() - between)
    rates = {
        phase: {
            name: (len(long) if phase == "prefill" else 1) / float(np.median(seconds[phase][i]))
            for i, name in enumerate(("ours", "llama.cpp"))
        }
        for phase in seconds
    }
    return {"file": path.name, "llama.cpp": peer.system, "threads": threads, "texts": rows, "tokens_per_s": rates}


def main(arguments: list[str]) -> int:
    found = compare(Path(arguments[0]), threads=1)
    found |= {"date": time.strftime("%Y-%m-%d"), "load_average": os.getloadavg()[0], "cores": os.cpu_count()}
    print(json.dumps(found, indent=1))
    if "--write" in arguments:
        RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
