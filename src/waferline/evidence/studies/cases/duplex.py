"""Duplex: GEMM units in the logic die of the memory stacks take what has little arithmetic per byte.

A processor paired with compute in its memory stacks: every operation goes where its arithmetic intensity belongs.

Source: Duplex, arXiv:2409.01141, sections III to V. Times are rooflines without communication, so ratios of two machines
are what may be compared, and the source itself is a simulation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray, IntArray
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity
from waferline.evidence.studies.tolerance import absolute, at_least, between, printed, relative

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


_RATIOS = 0.10
_SERVING = 0.15
_TERA = 1e12
_FLOPS_PER_MAC = 2
_WHY_ENERGY = "energies of a bit on either way to the memory, and of an operation, were not in the text that was read"
_WHY_SMALL = "experts sit on few devices each and share links there; a roofline without communication sees neither"


def compute(d: Facts) -> Iterator[Check]:
    yield from _arithmetic(d)
    units, models = _units(d), _models(d)
    yield from _ratios(d, units, models["mixtral"])
    yield from _signs(units, models)
    yield from _serving(d["serving"], units, models["mixtral"])
    yield Check("energy saved, mean of its models and loads", "%", d["energy_saved_percent"], None, why=_WHY_ENERGY)


def _units(d: Facts) -> dict[str, Unit]:

    processor = Unit(**d["processor"])
    bank = d["bank_bandwidth"] * processor.bytes_per_s
    logic = Unit(d["stacks"] * d["logic_stack_flops_per_s"], d["logic_bandwidth"] * processor.bytes_per_s)
    return {"processor": processor, "logic": logic, "bank": Unit(bank * d["bank_flops_per_byte"], bank)}


def _models(d: Facts) -> dict[str, Decoder]:

    return {name: Decoder(**sizes) for name, sizes in d["models"].items()}


def _arithmetic(d: Facts) -> Iterator[Check]:
    g, a = d["gemm_units"], d["area_mm2"]
    peak = g["count"] * g["macs"] * _FLOPS_PER_MAC * g["clock_hz"] / _TERA
    yield identity("peak of a stack", "TFLOP/s", float(g["printed"]), peak, printed(g["printed"]))
    four_rounded = absolute(0.02, "digits printed in the source, of four rounded parts")
    yield identity("area of the added units", "mm²", a["total"], sum(a["parts"]), four_rounded)
    yield identity("share of the die", "%", float(a["percent"]), 100 * a["total"] / a["die"], printed(a["percent"]))


def _ratios(d: Facts, units: Mapping[str, Unit], mixtral: Decoder) -> Iterator[Check]:
    for row in d["ratios"]:
        setting = (mixtral, row["sequences"], row["context"], units["processor"])
        ratio = decode_layer(*setting).total_s / decode_layer(*setting, units[row["unit"]]).total_s
        yield Check(row["name"], "× GPU", row["printed"], ratio, relative(_RATIOS), why=_WHY_SMALL)
    setting = (mixtral, 64, 384, units["processor"])
    both = decode_layer(*setting).total_s / decode_layer(*setting, units["logic"], together=True).total_s
    yield Check("both at once is an upper bound of the best", "× GPU", d["best_ratio"], both, at_least(d["best_ratio"]))
    edap, banks = d["edap_winner"], units["bank"].flops_per_s
    crossing = banks / units["logic"].bytes_per_s
    between_them = between(edap["bank_up_to"], edap["logic_from"])
    yield Check("intensity where Logic-PIM overtakes Bank-PIM", "FLOP/B", None, crossing, between_them)
    tokens = crossover_tokens(units["processor"], units["logic"])
    yield Check("tokens on an expert where the processor overtakes", "tokens", None, tokens, why="nothing printed yet")


def _signs(units: Mapping[str, Unit], models: Mapping[str, Decoder]) -> Iterator[Check]:
    """Multi-head attention suits banks, grouped-query attention the logic die."""

    for name, winner, other in (("opt", "bank", "logic"), ("llama3", "logic", "bank")):
        setting = (models[name], 32, 6144, units["processor"])
        gain = decode_layer(*setting, units[other]).total_s / decode_layer(*setting, units[winner]).total_s
        yield Check(f"{name}: {winner} over {other}", "×", None, gain, at_least(1.0))


def _serving(s: Facts, units: Mapping[str, Unit], model: Decoder) -> Iterator[Check]:
    """Saturation of a full batch: every request costs its share of the steps and its prompt on the processor."""

    context = s["prompt"] + s["output"] / 2
    active = model.attention_parameters + model.chosen * model.ffn_parameters
    prompt_s = 2 * active * s["prompt"] / units["processor"].flops_per_s * model.layers / s["devices"]
    for name, unit, published in (("GPU", None, s["gpu_per_s"]), ("Duplex", units["logic"], s["duplex_per_s"])):
        layer = decode_layer(model, s["batch"], context, units["processor"], unit)
        step_s = layer.total_s * model.layers / s["devices"]
        rate = 1 / (s["output"] * step_s / s["batch"] + prompt_s)
        why = "communication, prompts that interrupt steps and real kernels lower a rate that a roofline gives"
        yield Check(f"requests at saturation, {name}", "1/s", published, rate, relative(_SERVING), why=why)
