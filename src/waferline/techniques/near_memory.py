"""A processor paired with compute in its memory stacks: every operation goes where its arithmetic intensity belongs.

Source: Duplex, arXiv:2409.01141, sections III to V. Times are rooflines without communication, so ratios of two machines
are what may be compared, and the source itself is a simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray, IntArray

_BYTES = 2.0  # fp16
_MATRICES = 3.0


@dataclass(frozen=True, slots=True)
class Unit:
    """Peak arithmetic and bandwidth of one device's processor, or of the compute in its memory."""

    flops_per_s: float
    bytes_per_s: float

    def time_s(self, flops: npt.ArrayLike, moved: npt.ArrayLike) -> FloatArray:
        return np.maximum(np.asarray(flops) / self.flops_per_s, np.asarray(moved) / self.bytes_per_s)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Sizes of one layer of a decoder; `experts` 1 is a dense one. group: query heads that share a KV head."""

    layers: int
    hidden: int
    width: int
    heads: int
    group: int
    experts: int = 1
    chosen: int = 1

    @property
    def ffn_parameters(self) -> float:
        return _MATRICES * self.hidden * self.width

    @property
    def attention_parameters(self) -> float:
        return self.hidden * self.hidden * (2.0 + 2.0 / self.group)

    @property
    def kv_bytes_per_token(self) -> float:
        """Of one layer."""
        return 2.0 * self.hidden / self.group * _BYTES


def crossover_tokens(processor: Unit, memory: Unit) -> float:
    """Tokens on an expert above which the processor is faster: bytes of it against FLOPs of the memory's compute."""
    return memory.flops_per_s / processor.bytes_per_s


def split_s(tokens: Sequence[int], parameters: float, processor: Unit, memory: Unit) -> float:
    """Both at once: the experts with the fewest tokens move to memory, as many as make the longer side shortest."""
    ordered = np.sort([n for n in tokens if n])
    flops, moved = 2.0 * ordered * parameters, np.full(len(ordered), _BYTES * parameters)
    in_memory = np.concatenate([[0.0], np.cumsum(memory.time_s(flops, moved))])
    rest = processor.time_s(flops, moved)
    outside = rest.sum() - np.concatenate([[0.0], np.cumsum(rest)])
    return float(np.maximum(in_memory, outside).min())


def routed_tokens(model: Decoder, sequences: int, trials: int, seed: int = 0) -> IntArray:
    """Tokens on every expert in `trials` steps, each choice equally likely: (trials, experts)."""
    order = np.random.default_rng(seed).random((trials, sequences, model.experts)).argsort(axis=-1)
    return np.asarray((order < model.chosen).sum(axis=1))


@dataclass(frozen=True, slots=True)
class Layer:
    """Mean seconds of one decode layer: fully connected parts, attention, feed-forward."""

    connected_s: float
    attention_s: float
    ffn_s: float

    @property
    def total_s(self) -> float:
        return self.connected_s + self.attention_s + self.ffn_s


def decode_layer(
    model: Decoder,
    sequences: int,
    context: float,
    processor: Unit,
    memory: Unit | None = None,
    *,
    together: bool = False,
    trials: int = 300,
) -> Layer:
    """One decode step of one layer. With `memory`, each operation (each expert too) runs on the faster of the two.

    together: experts are split so that both compute at once. The time of one device; devices share the work evenly.
    """
    units = [processor] if memory is None else [processor, memory]
    connected = processor.time_s(2.0 * model.attention_parameters * sequences, _BYTES * model.attention_parameters)
    kv = sequences * context * model.kv_bytes_per_token
    attention = min(float(u.time_s(2.0 * model.group * kv / _BYTES, kv)) for u in units)
    counts = routed_tokens(model, sequences, trials if model.experts > 1 else 1)
    if together and memory is not None:
        ffn = float(np.mean([split_s(list(row), model.ffn_parameters, processor, memory) for row in counts]))
    else:
        choices = [u.time_s(2.0 * counts * model.ffn_parameters, _BYTES * model.ffn_parameters) for u in units]
        ffn = float(np.where(counts > 0, np.minimum.reduce(choices), 0.0).sum(axis=1).mean())
    return Layer(float(connected), attention, ffn)
