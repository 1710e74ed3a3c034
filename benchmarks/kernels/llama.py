"""llama.cpp's own answers and speed for a GGUF file, through `llama-cpp-python`'s low-level interface."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def llama_cpp_missing() -> str | None:
    """Why llama.cpp cannot be compared with, or None when it can."""
    return None if importlib.util.find_spec("llama_cpp") else "llama-cpp-python is not installed"


def llama_cpp_build() -> str | None:
    """What llama.cpp says it was compiled with (instruction sets, OpenMP, repacking), None where it is not installed."""
    if llama_cpp_missing():
        return None
    import llama_cpp

    return str(llama_cpp.llama_print_system_info().decode()).strip(" |")


class LlamaCpp:
    """A model loaded by llama.cpp. Token numbers in, logits out; no text."""

    def __init__(self, path: str, *, threads: int, context: int = 1024, repack: bool = True) -> None:
        import llama_cpp

        self.lib = llama_cpp
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)  # kept alive by us
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        if hasattr(model_params, "use_extra_bufts"):
            model_params.use_extra_bufts = repack
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
        if not self.model:
            raise ValueError(f"llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, 512, 512
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def forget(self) -> None:
        """Empty the KV cache."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def evaluate(self, tokens: Sequence[int]) -> np.ndarray:
        """Tokens behind the cached ones -> logits of the last, f32[vocabulary]."""
        array = (self.lib.llama_token * len(tokens))(*[int(t) for t in tokens])
        if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError("llama_decode failed")
        self.lib.llama_synchronize(self.context)
        pointer: Any = self.lib.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(pointer, (self.vocabulary,)).copy()

    def tokenize(self, text: str) -> list[int]:
        """Token numbers of a text, with the beginning-of-sequence token the model wants."""
        vocab = self.lib.llama_model_get_vocab(self.model)
        raw = text.encode()
        buffer = (self.lib.llama_token * (4 * len(raw) + 8))()
        count = self.lib.llama_tokenize(vocab, raw, len(raw), buffer, len(buffer), True, False)
        return list(buffer[:count])

    def close(self) -> None:
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)


def timed(clock: Callable[[], float], work: Callable[[], Any]) -> float:
    """Seconds of one call by a clock (`time.thread_time` for one thread, `time.perf_counter` for more)."""
    start = clock()
    work()
    return clock() - start


__all__ = ["LlamaCpp", "llama_cpp_build", "llama_cpp_missing", "timed"]
