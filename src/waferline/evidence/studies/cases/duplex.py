"""Duplex: GEMM units in the logic die of the memory stacks take what has little arithmetic per byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import absolute, at_least, between, printed, relative

if TYPE_CHECKING:
    from waferline.techniques.near_memory import Decoder, Unit

_RATIOS = 0.10
_SERVING = 0.15
_TERA = 1e12
_FLOPS_PER_MAC = 2
_WHY_SMALL = "experts sit on few devices each and share links there; a roofline without communication sees neither"


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts

    d = facts("duplex")
    yield from _arithmetic(d)
    units, models = _units(d), _models(d)
    yield from _ratios(d, units, models["mixtral"])
    yield from _signs(units, models)
    yield from _serving(d["serving"], units, models["mixtral"])


def _units(d: Mapping[str, Any]) -> dict[str, Unit]:
    from waferline.techniques.near_memory import Unit

    processor = Unit(**d["processor"])
    bank = d["bank_bandwidth"] * processor.bytes_per_s
    logic = Unit(d["stacks"] * d["logic_stack_flops_per_s"], d["logic_bandwidth"] * processor.bytes_per_s)
    return {"processor": processor, "logic": logic, "bank": Unit(bank * d["bank_flops_per_byte"], bank)}


def _models(d: Mapping[str, Any]) -> dict[str, Decoder]:
    from waferline.techniques.near_memory import Decoder

    return {name: Decoder(**sizes) for name, sizes in d["models"].items()}


def _arithmetic(d: Mapping[str, Any]) -> Iterator[Check]:
    g, a = d["gemm_units"], d["area_mm2"]
    peak = g["count"] * g["macs"] * _FLOPS_PER_MAC * g["clock_hz"] / _TERA
    yield Check("peak of a stack", "TFLOP/s", float(g["printed"]), peak, printed(g["printed"]))
    four_rounded = absolute(0.02, "digits printed in the source, of four rounded parts")
    yield Check("area of the added units", "mm²", a["total"], sum(a["parts"]), four_rounded)
    yield Check("share of the die", "%", float(a["percent"]), 100 * a["total"] / a["die"], printed(a["percent"]))


def _ratios(d: Mapping[str, Any], units: Mapping[str, Unit], mixtral: Decoder) -> Iterator[Check]:
    from waferline.techniques.near_memory import crossover_tokens, decode_layer

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
    from waferline.techniques.near_memory import decode_layer

    for name, winner, other in (("opt", "bank", "logic"), ("llama3", "logic", "bank")):
        setting = (models[name], 32, 6144, units["processor"])
        gain = decode_layer(*setting, units[other]).total_s / decode_layer(*setting, units[winner]).total_s
        yield Check(f"{name}: {winner} over {other}", "×", None, gain, at_least(1.0))


def _serving(s: Mapping[str, Any], units: Mapping[str, Unit], model: Decoder) -> Iterator[Check]:
    """Saturation of a full batch: every request costs its share of the steps and its prompt on the processor."""
    from waferline.techniques.near_memory import decode_layer

    context = s["prompt"] + s["output"] / 2
    active = model.attention_parameters + model.chosen * model.ffn_parameters
    prompt_s = 2 * active * s["prompt"] / units["processor"].flops_per_s * model.layers / s["devices"]
    for name, unit, published in (("GPU", None, s["gpu_per_s"]), ("Duplex", units["logic"], s["duplex_per_s"])):
        layer = decode_layer(model, s["batch"], context, units["processor"], unit)
        step_s = layer.total_s * model.layers / s["devices"]
        rate = 1 / (s["output"] * step_s / s["batch"] + prompt_s)
        why = "communication, prompts that interrupt steps and real kernels lower a rate that a roofline gives"
        yield Check(f"requests at saturation, {name}", "1/s", published, rate, relative(_SERVING), why=why)


STUDY = Study(
    name="duplex",
    title="Duplex: processor and logic-die PIM for experts, grouped queries and continuous batching",
    source=Source("https://arxiv.org/abs/2409.01141", "2024-09-02"),
    claim="up to 2.67 times the throughput of a GPU, 28 % less energy",
    configuration={
        "machine": "4 H100-class devices with Logic-PIM",
        "model": "Mixtral, OPT, Llama 3",
        "format": "fp16",
    },
    compute=compute,
    note="agreement with a simulator, not with a machine; each operation, and each expert, on the faster unit throughout",
)
