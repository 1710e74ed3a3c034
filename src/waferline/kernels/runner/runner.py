"""Load a GGUF model and run it: prefill, decode, generate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from waferline.errors import DoesNotFitError, FileFormatError, InvalidInputError
from waferline.formats.codec import decode as decode_format
from waferline.formats.gguf_header import open_gguf
from waferline.formats.tensors import TensorFile, TensorInfo
from waferline.kernels.cpu.attention import KVCache
from waferline.kernels.cpu.elementwise import rms_norm_rows
from waferline.kernels.cpu.matmul import layout_for
from waferline.kernels.cpu.threads import available_threads, use_threads
from waferline.kernels.cpu.tiles import ROWS, TILES
from waferline.kernels.runner import state
from waferline.kernels.runner.config import ModelConfig, read_config
from waferline.kernels.runner.decode import decode_kernel
from waferline.kernels.runner.prefill import Batch
from waferline.kernels.runner.rows import ACTIVATIONS
from waferline.kernels.runner.sampling import Sampling, choose_token
from waferline.kernels.runner.tokenizer import Tokenizer, read_tokenizer
from waferline.kernels.runner.weights import Weights, read_weights

BATCH_TOKENS = 512  # prefill goes in pieces of this many tokens
DEFAULT_CONTEXT = 2048
WORK_BYTES_PER_COLUMN = 64  # of a prefill piece, per token and model width: activations, packed twice, and outputs


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall seconds. `decode_s` has one entry per decoded token; `operators_s` sums over all decode steps."""

    load_s: float
    prefill_s: float
    prefill_tokens: int
    decode_s: tuple[float, ...]
    operators_s: dict[str, float]

    @property
    def prefill_tokens_per_s(self) -> float:
        return self.prefill_tokens / self.prefill_s if self.prefill_s else 0.0

    @property
    def decode_tokens_per_s(self) -> float:
        """From the median step; 0 when nothing was decoded."""
        return 1 / float(np.median(self.decode_s)) if self.decode_s else 0.0


@dataclass(frozen=True, slots=True)
class Generation:
    """What came out: only the new tokens, and `stopped` tells why (`end`, `length` or `context`)."""

    text: str
    tokens: tuple[int, ...]
    stopped: str
    timings: Timings


class Runner:
    """A model in memory with one sequence in its KV cache. Not for use from several threads at once."""

    def __init__(
        self,
        file: TensorFile,
        config: ModelConfig,
        weights: Weights,
        tokenizer: Tokenizer | None,
        cache: KVCache,
        threads: int,
        load_s: float,
    ) -> None:
        self.file, self.config, self.weights, self.tokenizer = file, config, weights, tokenizer
        self.cache, self.threads, self.load_s = cache, threads, load_s
        self._embedding = file["token_embd.weight"]
        self._embedding_bytes = file.raw(self._embedding).reshape(config.vocabulary, -1)
        self._model = _step_model(weights, config, cache.slots)
        self._shape = _step_shape(config)
        self._work = _step_work(config, cache, threads)
        self._cache = state.Cache(*cache.arrays)
        self._decode = decode_kernel(cache.kind)
        self._logits = np.zeros((1, -(-config.vocabulary // ROWS) * ROWS), np.float32)
        self._ticks = np.zeros(len(state.OPERATORS), np.int64)
        self._batch = Batch(config, self._model, self._shape, cache, threads)
        self.operators_s = dict.fromkeys(state.OPERATORS, 0.0)  # of all decode steps since `reset`

    @property
    def tokens(self) -> int:
        """Tokens in the KV cache."""
        return self.cache.tokens

    def reset(self) -> None:
        """Forget the sequence and the operator times."""
        self.cache.tokens = 0
        self.operators_s = dict.fromkeys(state.OPERATORS, 0.0)
        self._batch.seconds[:] = 0

    @property
    def prefill_operators_s(self) -> dict[str, float]:
        """Seconds per operator of all prefills since `reset`."""
        return dict(zip(state.OPERATORS, self._batch.seconds.tolist(), strict=True))

    def embed(self, tokens: Sequence[int]) -> np.ndarray:
        """Rows of the embedding, as the model scales them, f32[n, d_model]."""
        rows = np.ascontiguousarray(self._embedding_bytes[np.asarray(tokens, np.int64)])
        values = decode_format(rows, self._embedding.format, (len(rows), self.config.d_model))
        values = np.ascontiguousarray(values, np.float32)
        return values * np.float32(self.config.embedding_scale) if self.config.embedding_scale != 1 else values

    def _finish(self, logits: np.ndarray) -> np.ndarray:
        """Logits as the model scales and caps them, in place."""
        scale, cap = self.config.logit_scale, self.config.logit_cap
        if scale != 1:
            logits *= np.float32(scale)
        if cap:
            np.multiply(np.tanh(logits / np.float32(cap), out=logits), np.float32(cap), out=logits)
        return logits

    def _check(self, tokens: Sequence[int]) -> None:
        if len(tokens) == 0:
            raise InvalidInputError("no tokens", where="runner")
        for token in tokens:
            if not 0 <= int(token) < self.config.vocabulary:
                raise InvalidInputError(f"token {token}", where="runner", hint=f"0 to {self.config.vocabulary - 1}")
        if self.cache.tokens + len(tokens) > self.cache.slots:
            raise DoesNotFitError(
                f"{self.cache.tokens} + {len(tokens)} tokens in a context of {self.cache.slots}", where="runner"
            )

    def decode(self, token: int) -> np.ndarray:
        """One token behind the cached ones -> logits f32[vocabulary] (a view the next call overwrites)."""
        self._check([token])
        use_threads(self.threads)
        self._ticks[:] = 0
        start = time.perf_counter()
        x, c = self.embed([token]), self.cache
        self._decode(
            x, c.tokens, self._model, self._work, self._shape, self._cache, self._logits, self._ticks, self.threads
        )
        c.tokens += 1
        elapsed, total = time.perf_counter() - start, max(1, int(self._ticks.sum()))
        for name, ticks in zip(state.OPERATORS, self._ticks.tolist(), strict=True):
            self.operators_s[name] += elapsed * ticks / total
        return self._finish(self._logits[0, : self.config.vocabulary])

    def prefill(self, tokens: Sequence[int], *, all_logits: bool = False) -> np.ndarray:
        """Many tokens behind the cached ones -> logits of the last, f32[vocabulary], or of each, f32[n, vocabulary]."""
        self._check(tokens)
        use_threads(self.threads)
        found = []
        for first in range(0, len(tokens), BATCH_TOKENS):
            x = self._batch.run(self.embed(tokens[first : first + BATCH_TOKENS]))
            if all_logits:
                found.append(self._head(x))
        return np.concatenate(found) if all_logits else self._head(x[-1:])[0]

    def _head(self, x: np.ndarray) -> np.ndarray:
        """Output norm and output matrix, f32[n, vocabulary]."""
        h = np.empty_like(x)
        rms_norm_rows(x, self._model.output_norm, self.config.rms_eps, h, 0, x.shape[0])
        row = self._model.table[self.config.layers, 0]
        logits = self._batch.times(h, row, state.OUTPUT, "logits")[: x.shape[0], : self.config.vocabulary]
        return self._finish(logits.copy())

    def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int,
        sampling: Sampling | None = None,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Generation:
        """Continue a prompt (text, or token numbers) from an empty cache.

        `on_text` is called with each piece of new text. Raises `InvalidInputError` for text when the file has no
        tokenizer, `DoesNotFitError` for a prompt longer than the context.
        """
        if max_tokens < 0:
            raise InvalidInputError(f"{max_tokens} tokens to generate", where="generate")
        sampling = sampling or Sampling()
        tokens = self.encode(prompt) if isinstance(prompt, str) else [int(t) for t in prompt]
        self.reset()
        generator = np.random.default_rng(sampling.seed)
        start = time.perf_counter()
        logits = self.prefill(tokens)
        prefill_s = time.perf_counter() - start
        new: list[int] = []
        steps: list[float] = []
        stopped, told = "length", ""
        ends = self.tokenizer.ends if self.tokenizer else frozenset()
        while len(new) < max_tokens:
            token = choose_token(logits, sampling, generator)
            if token in ends:
                stopped = "end"
                break
            new.append(token)
            if on_text is not None:
                told = _tell(self.text(new), told, on_text)
            if len(new) == max_tokens:
                break
            if self.cache.tokens == self.cache.slots:
                stopped = "context"
                break
            begin = time.perf_counter()
            logits = self.decode(token)
            steps.append(time.perf_counter() - begin)
        timings = Timings(self.load_s, prefill_s, len(tokens), tuple(steps), dict(self.operators_s))
        return Generation(self.text(new), tuple(new), stopped, timings)

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text, with the beginning-of-sequence token where the model wants one."""
        if self.tokenizer is None:
            raise InvalidInputError("the file has no tokenizer", where=str(self.file.path), hint="give token numbers")
        tokens = self.tokenizer.encode(text)
        if not tokens:
            raise InvalidInputError("an empty prompt", where="generate")
        return tokens

    def text(self, tokens: Sequence[int]) -> str:
        """Text of token numbers, or the numbers themselves when the file has no tokenizer."""
        return self.tokenizer.decode(tokens) if self.tokenizer else " ".join(map(str, tokens))


def _tell(text: str, told: str, on_text: Callable[[str], None]) -> str:
    """Pass on what is new, except an unfinished character."""
    if text.endswith("�"):
        return told
    on_text(text[len(told) :])
    return text


def load(
    path: str | Path,
    *,
    context: int | None = None,
    kv: str = "f16",
    threads: int | None = None,
    memory_bytes: int | None = None,
) -> Runner:
    """A runner for a GGUF file of one of `config.FAMILIES`.

    context: tokens of KV cache (default: the model's own, at most 2048). kv: `f16` or `q8`. threads: default all cores.
    memory_bytes: what may be used (default: what the system has free).

    Raises `FileFormatError` for a corrupt or truncated file, `UnsupportedError` for an architecture, weight format or
    rotary scaling without code, `DoesNotFitError` before allocating anything when it would not fit.
    """
    start = time.perf_counter()
    file = open_gguf(Path(path))
    values = {key: field.value for key, field in file.metadata.items()}
    vocabulary = _vocabulary(file)
    config = read_config(values, vocabulary, str(path))
    tokenizer = read_tokenizer(values, vocabulary, str(path))
    context = min(config.context, DEFAULT_CONTEXT) if context is None else context
    if not 1 <= context <= config.context:
        raise InvalidInputError(f"a context of {context} tokens", where=str(path), hint=f"1 to {config.context}")
    threads = available_threads() if threads is None else threads
    use_threads(threads)
    free = psutil.virtual_memory().available if memory_bytes is None else memory_bytes
    dims = (config.layers, config.kv_heads, context, config.head_dim)
    cache_bytes = KVCache.size_bytes(kv, *dims) if kv in ("f16", "q8") else 0
    widest = max(config.d_model, config.ffn, config.expert_ffn, config.q_width)
    reserved = cache_bytes + BATCH_TOKENS * widest * WORK_BYTES_PER_COLUMN
    if reserved > free:
        raise DoesNotFitError(
            f"a KV cache and work space of {reserved} bytes with {free} free", where=str(path), hint="a shorter context"
        )
    weights = read_weights(file, config, free - reserved, context)
    cache = KVCache.empty(kv, *dims)
    runner = Runner(file, config, weights, tokenizer, cache, threads, 0.0)
    runner.load_s = time.perf_counter() - start
    return runner


def _vocabulary(file: TensorFile) -> int:
    found: TensorInfo | None = next((t for t in file.tensors if t.name == "token_embd.weight"), None)
    if found is None or len(found.shape) != 2 or 0 in found.shape:
        raise FileFormatError("the file has no 2-D tensor 'token_embd.weight'", where=str(file.path))
    return found.shape[0]


def _step_model(w: Weights, c: ModelConfig, slots: int) -> state.Model:
    tables = [rope.table(slots, factors) for rope, factors in zip(c.ropes, _factors(w, c), strict=True)]
    cos, sin = (np.stack(t) for t in zip(*tables, strict=True))
    return state.Model(
        arena=w.arena, table=w.table, output_norm=w.output_norm, windows=np.array(c.windows, np.int64), cos=cos, sin=sin,
        **w.vectors,
    )  # fmt: skip


def _factors(w: Weights, c: ModelConfig) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Rotary factors of layers that see everything, and of those with a window."""
    return w.rope_factors, w.rope_factors if c.family.local_scaled else None


def _step_shape(c: ModelConfig) -> state.Shape:
    return state.Shape(
        heads=c.heads, kv_heads=c.kv_heads, head_dim=c.head_dim, d_model=c.d_model, ffn=c.expert_ffn if c.experts else c.ffn,
        experts=c.experts, experts_used=c.experts_used, shared_ffn=c.shared_ffn, halves=c.family.halves,
        renormalise=c.family.renormalise, activation=ACTIVATIONS.index(c.family.activation), eps=c.rms_eps,
        score_scale=np.float32(c.score_scale), score_cap=np.float32(c.score_cap),
        residual_scale=np.float32(c.residual_scale),
    )  # fmt: skip


def _step_work(c: ModelConfig, cache: KVCache, threads: int) -> state.Work:
    ffn = max(c.ffn, c.expert_ffn, c.shared_ffn)
    widest = max(c.d_model, c.q_width, ffn)

    def rows(width: int, pad: bool = True) -> np.ndarray:
        return np.zeros((1, -(-width // ROWS) * ROWS if pad else width), np.float32)

    k, z, f = (state.packed_for(kind, widest) for kind in state.LAYOUTS)
    return state.Work(
        packed=(k, z, f), h=rows(c.d_model, pad=False), q=rows(c.q_width), kk=rows(c.kv_width), v=rows(c.kv_width),
        attended=rows(c.q_width, pad=False), o=rows(c.d_model), gate=rows(ffn), up=rows(ffn), act=rows(ffn),
        router=rows(max(c.experts, 1)), sum=rows(c.d_model, pad=False), scores=cache.scratch(threads),
    )  # fmt: skip


def warm_up(runner: Runner, prompt_tokens: int = BATCH_TOKENS) -> float:
    """Compile what a run of this model needs (from the disk cache after the first time); seconds taken.

    Decodes a token, prefills a few in the column width that prompts of `prompt_tokens` use, and forgets them, so that no
    later timing contains compilation.
    """
    start = time.perf_counter()
    runner.reset()
    pieces = {min(prompt_tokens, BATCH_TOKENS), prompt_tokens % BATCH_TOKENS} - {0}
    for width in {layout_for(tile, piece).columns for piece in pieces for tile in TILES.values()}:
        runner.prefill([0] * min(width, runner.cache.slots))
        runner.reset()
    runner.decode(0)
    runner.reset()
    return time.perf_counter() - start


__all__: list[Any] = ["Generation", "Runner", "Timings", "load", "warm_up"]
