"""Techniques of the schedule and of the machine: prompts in pieces, prefill elsewhere, experts evened out, other execution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import anywhere, ceil, maximum, minimum, where
from waferline.errors import InvalidInputError, UnsupportedError
from waferline.formats import get_format
from waferline.machines.device import Device
from waferline.predict.memory import kv_cache_bytes
from waferline.predict.techniques.attention import keeps_no_cache
from waferline.predict.techniques.technique import Given, Parameter, Setting, Step, Technique
from waferline.workloads.lower import SEQUENCE_KINDS, builder, lower_rows
from waferline.workloads.operator import Operator
from waferline.workloads.spec import MixtureOfExperts, Transformer
from waferline.workloads.weights import weight_elements

_GIGA = 1e9
_SOFT = "soft-float"
_LOOP_CYCLES = 4.0  # of a multiply-add with a unit for floats (`catalog/studies/guaranteed-guess.yaml`)
_PROCESSORS = ("cpu", "soc", "mcu")
_UNITS = {"logic-pim": "logic_bandwidth", "bank-pim": "bank_bandwidth"}  # names in the publication's facts
_NEAR = ("decode_attention", "mla_decode", "moe")  # what near-memory units take: few operations a byte


def _in_pieces(step: Step, s: Setting, given: Given) -> Step:
    """Prompts pass in pieces of so many tokens: the weights are read once for each piece."""
    rows = s.batch * (s.prompt - s.cached)
    pieces = maximum(ceil(rows / given["tokens"]), 1.0)
    each = ceil(minimum(rows, given["tokens"]))
    wide = lower_rows(s.model, rows=each, logits=1.0, decode=False, precision=s.precision, parallel=s.parallel)
    ops = [
        *(replace(op, count=op.count * pieces) for op in wide),
        *(op for op in step.operators if op.kind in SEQUENCE_KINDS),
    ]
    return replace(step, operators=ops, layers=step.layers * pieces)


def _elsewhere(step: Step, s: Setting, given: Given) -> Step:
    """The cache of the prompt crosses a link to the machines that decode."""
    bandwidth = given["bandwidth"]
    if bandwidth is None:
        link = s.device.link("scale-out") or s.device.link("scale-up")
        if link is None:
            raise UnsupportedError(
                f"disaggregate: {s.device.name} has no link to others", hint="give bandwidth, in GB/s"
            )
        bandwidth = link.bandwidth_bytes_per_s / _GIGA
    tokens = lambda n: kv_cache_bytes(s.model, s.precision, n, s.parallel.tp, s.memory)  # noqa: E731
    there = where(s.cached > 0.0, tokens(s.cached), 0.0)  # what the cache holds already was there before
    cached = s.batch * maximum(tokens(s.prompt) - there, 0.0) / s.parallel.pp
    return replace(step, host_s=step.host_s + cached / (bandwidth * _GIGA))


def _loaded(factor: float | None) -> Any:
    def change(step: Step, s: Setting, given: Given) -> Step:
        """The busiest device of an expert-parallel group has so many times its even share: at most everything."""
        if not anywhere(s.parallel.ep > 1.0):
            raise InvalidInputError(
                "experts are balanced between devices: there is one expert-parallel rank", hint="--tp 4 --ep 4"
            )
        load = minimum(given["factor"] if factor is None else factor, s.parallel.ep)
        ops = [replace(op, shape={**op.shape, "load": load}) if op.kind == "moe" else op for op in step.operators]
        return replace(step, operators=ops)

    return change


def _copied_bytes(s: Setting, given: Given) -> Floats:
    """So many experts of every layer."""
    mixed = [(block.count, block.ffn) for block in s.model.blocks if isinstance(block.ffn, MixtureOfExperts)]
    held, layers = sum(count * ffn.experts for count, ffn in mixed), sum(count for count, _ in mixed)
    one = weight_elements(s.model)["experts"] / held * builder(s.model, s.precision).weight_bytes
    return given["copies"] * layers * one * s.parallel.ep / (s.parallel.tp * s.parallel.dp) / s.parallel.pp


def _no_experts(model: Transformer, device: Device) -> str:
    mixed = any(isinstance(block.ffn, MixtureOfExperts) for block in model.blocks)
    return "" if mixed else f"{model.name} has no experts to balance"


def _nothing_near(model: Transformer, device: Device) -> str:
    return keeps_no_cache(model) and _no_experts(model, device) and f"{model.name} neither attends nor has experts"


def _no_program(model: Transformer, device: Device) -> str:
    """Kernels of GPUs are compiled for them: nobody translates or emulates them."""
    return (
        ""
        if device.kind in _PROCESSORS
        else f"{device.name} is a {device.kind}, not a processor that runs programs of others"
    )


def _near_memory(step: Step, s: Setting, given: Given) -> Step:
    """Operators of few operations a byte run beside the memory, at several times its bandwidth."""
    faster = given["bandwidth"] or read_packaged("studies/duplex.yaml")[_UNITS[given["unit"]]]

    def moved(op: Any) -> Any:
        return replace(op, weight_bytes=op.weight_bytes / faster, kv_bytes=op.kv_bytes / faster)

    return replace(step, operators=[moved(op) if op.kind in _NEAR else op for op in step.operators])


def _slowed(operators: Sequence[Operator], given: Given) -> Sequence[Operator]:
    """Every operator takes as much longer as programs in this mode of execution did; whole numbers need no floats in software."""
    times = execution_times(given["mode"])
    slow = [given["mode"] != _SOFT or not get_format(op.activations).arithmetic.startswith("int") for op in operators]
    if not any(slow):
        raise InvalidInputError("emulated: nothing is computed in floats", hint="--precision fp32")
    return [replace(op, count=op.count * times) if s else op for op, s in zip(operators, slow, strict=True)]


def _executed(step: Step, s: Setting, given: Given) -> Step:
    return replace(step, operators=_slowed(step.operators, given))


def _with_floats(device: Device, given: Given) -> Device:
    """What a processor without floats would do with a unit for them: the loop that the factor of emulation was counted against
    (two loads, a multiply-add and a stall)."""
    if not device.whole_numbers:
        return device
    return device.with_(peak_flops={**device.peak_flops, "fp32": 2.0 / _LOOP_CYCLES * device.units * device.clock_hz})


def execution_times(mode: str) -> float:
    """Time over native of a mode of execution (`catalog/studies/guaranteed-guess.yaml`)."""
    modes = read_packaged("studies/guaranteed-guess.yaml")["modes"]
    return float(modes[mode].get("times_native") or modes[mode]["time_s"] / modes["native"]["time_s"])


def _execution(
    title: str, usual: str, modes: tuple[str, ...], machine: Callable[[Device, Given], Device] | None = None
) -> Technique:
    return Technique(
        title=title,
        parameters={"mode": Parameter("how it is executed", usual, words=modes)},
        source="Heakl et al. 2025, Guaranteed Guess, arXiv:2506.14606 (Rosetta 2); SEGGER emFloat",
        limits="one factor for every operator, measured on small programs of one processor each",
        checked="identity: ratios of published times",
        refuses=_no_program,
        prefill=_executed,
        decode=_executed,
        one_pass=_slowed,
        machine=machine,
    )


_IMBALANCE = {"factor": Parameter("load of the busiest device over an even share", 1.5, 1.0, 256.0)}
_DUPLEX = "Yun et al. 2024, Duplex, arXiv:2409.01141"
SCHEDULE = {
    "chunked-prefill": Technique(
        title="Chunked prefill: prompts pass in pieces",
        parameters={"tokens": Parameter("tokens of a piece", 512.0, 16.0, whole=True)},
        source="Agrawal et al. 2024, Sarathi-Serve, arXiv:2403.02310",
        limits="of a prompt alone: what decodes gain beside it is told by simulate serving",
        checked="own check: time rises as pieces shrink, and one piece is a plain prefill",
        prefill=_in_pieces,
        anew=True,
        server=lambda given: {"max_num_batched_tokens": int(given["tokens"]), "chunked": True},
        replaces="prefill and decode steps that interleave (chunked prefill under load)",
    ),
    "disaggregate": Technique(
        title="Prefill on machines of its own: the cache crosses a link before the first token",
        parameters={
            "bandwidth": Parameter(
                "of the link in one direction, GB/s; the machine's own unless given", optional=True, least=1e-3
            )
        },
        source="Zhong et al. 2024, DistServe, arXiv:2401.09670",
        limits="the transfer overlaps with nothing; how many machines of either kind is asked of simulate serving",
        checked="identity: bytes of the cache over the link's bandwidth",
        prefill=_elsewhere,
        server=lambda given: {"prefill_replicas": 1, "kv_link": given["bandwidth"] and given["bandwidth"] * _GIGA},
    ),
    "expert-imbalance": Technique(
        title="Experts chosen unevenly: the busiest device decides",
        parameters=_IMBALANCE,
        source="Fu et al. 2025, EPLB and expert parallelism of DeepSeek-V3, arXiv:2412.19437, section 3.4",
        limits="the factor is an input: it depends on what is asked; it stands for the load that a power law would give",
        refuses=_no_experts,
        checked="bound holds: between an even share and all tokens on one device",
        prefill=_loaded(None),
        decode=_loaded(None),
        replaces="imbalance between experts beyond the expected number that a batch touches",
    ),
    "grouped-experts": Technique(
        title="Experts chosen from every device's group (MoGE), or evened out by copies: no device waits",
        parameters={},
        source="Tang et al. 2025, Pangu Pro MoE, arXiv:2505.21411",
        limits="the model must have been trained so, or experts are copied where they are wanted",
        refuses=_no_experts,
        checked="own check: properties of the balance (study pangu-pro-moe)",
        prefill=_loaded(1.0),
        decode=_loaded(1.0),
        replaces="imbalance between experts beyond the expected number that a batch touches",
    ),
    "expert-load-balancing": Technique(
        title="Experts that are asked for most are copied to devices that would wait (EPLB)",
        parameters={
            "copies": Parameter("experts of each layer that a device holds beside its own", 1.0, 1.0, 64.0, whole=True)
        },
        source="DeepSeek-AI 2024, DeepSeek-V3 Technical Report, section 3.4, arXiv:2412.19437 (one copy a device); EPLB",
        limits="copies even the load out fully, and moving them costs nothing",
        refuses=_no_experts,
        checked="identity: an even share of the load, and the memory of the copies",
        prefill=_loaded(1.0),
        decode=_loaded(1.0),
        weights=_copied_bytes,
        replaces="imbalance between experts beyond the expected number that a batch touches",
    ),
    "near-memory": Technique(
        title="Units beside the memory take attention and experts of a decode step",
        parameters={
            "unit": Parameter(
                "where it stands: on the logic die under the memory, or in its banks", "logic-pim", words=tuple(_UNITS)
            ),
            "bandwidth": Parameter(
                "times the processor's bandwidth; the unit's unless given", optional=True, least=1.0, most=64.0
            ),
        },
        source=_DUPLEX,
        limits="units beside the memory are never short of arithmetic, and both kinds never work at once",
        checked="compared with data: published ratios of throughput (study duplex), themselves simulated",
        refuses=_nothing_near,
        own_units=True,
        decode=_near_memory,
    ),
    "translated": _execution(
        "Programs translated while they run (Rosetta 2), or once by a compiler or a model",
        "translated",
        ("translated", "transpiled"),
    ),
    "emulated": _execution("Floats in software, on a processor that has none", _SOFT, (_SOFT,), _with_floats),
}
