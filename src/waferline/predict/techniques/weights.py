"""Techniques of weights: adapters beside them, zeros that units skip, layers that are left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from waferline.arrays import Floats
from waferline.elementwise import minimum
from waferline.formats import get_format
from waferline.machines.device import Device
from waferline.predict.techniques.technique import Given, Parameter, Setting, Step, Technique, helps
from waferline.workloads.lower import builder
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Transformer
from waferline.workloads.weights import weight_elements

# Matrix units that skip two of four zeros: NVIDIA's since Ampere, AMD's since CDNA 3.
_SPARSE_UNITS = ("ampere", "ada", "hopper", "blackwell", "blackwell-ultra", "cdna3", "cdna4")
_HALF = 0.5
_INDEX_BITS = 2.0  # of each weight that is kept, where among its four it stands


def _in_layers(op: Operator) -> bool:
    return op.kind in ("gemm", "moe") and not helps(op) and not op.name.startswith(("head", "moe.router", "adapter."))


def _adapters(step: Step, s: Setting, given: Given) -> Step:
    """Beside each matrix two thin ones: down to the rank and up again, of every adapter that the batch uses."""
    b = builder(s.model, s.precision)

    def beside(op: Operator) -> Iterator[Operator]:
        yield op
        if op.kind == "gemm" and _in_layers(op):
            m, n, k, rank = op.shape["m"], op.shape["n"], op.shape["k"], given["rank"]
            used = minimum(given["adapters"], s.batch)
            for name, wide, deep in (("down", rank, k), ("up", n, rank)):
                thin = b.gemm(f"adapter.{name}", m, wide, deep, count=op.count, weights=b.wide)
                yield replace(thin, weight_bytes=thin.weight_bytes * used)

    return replace(step, operators=[part for op in step.operators for part in beside(op)])


def _adapter_bytes(s: Setting, given: Given) -> float:
    """Every adapter's matrices, as wide as the model's hidden size in the mean (seven matrices a layer)."""
    layers = float(sum(block.count for block in s.model.blocks))
    return given["adapters"] * layers * 7.0 * 2.0 * s.model.hidden_size * given["rank"] * 2.0


def _pruned(step: Step, s: Setting, given: Given) -> Step:
    """Half the weights of every matrix of the layers are gone: half the arithmetic, and their bytes but for an index."""

    def halved(op: Operator) -> Operator:
        return replace(op, flops=op.flops * _HALF, weight_bytes=op.weight_bytes * _kept(op.weights))

    return replace(step, operators=[halved(op) if _in_layers(op) else op for op in step.operators])


def _kept(weights: str) -> float:
    """Bytes of pruned weights over those of all."""
    return _HALF * (1.0 + _INDEX_BITS / get_format(weights).bits)


def _pruned_bytes(s: Setting, given: Given) -> Floats:
    """Bytes that a device no longer holds, below 0."""
    parts = weight_elements(s.model)
    all_bytes = (parts["blocks"] + parts["experts"]) * builder(s.model, s.precision).weight_bytes
    return -all_bytes * (1.0 - _kept(s.precision.weights)) / (s.parallel.tp * s.parallel.pp)


def _skips_no_zeros(model: Transformer, device: Device) -> str:
    sparse = device.architecture.lower().split()[:1] in ([name] for name in _SPARSE_UNITS)
    return "" if sparse else f"the units of {device.name} do not skip zeros"


def _skipped(step: Step, s: Setting, given: Given) -> Step:
    """A share of the layers is left out; embedding and head stay."""
    left = 1.0 - given["share"]
    ends = ("embedding", "head", "final_norm", "sampling")
    stays = lambda op: helps(op) or op.name.startswith(ends)  # noqa: E731
    ops = [op if stays(op) else replace(op, count=op.count * left) for op in step.operators]
    return replace(step, operators=ops, layers=step.helping + (step.layers - step.helping) * left)


WEIGHTS = {
    "lora": Technique(
        title="LoRA adapters served beside one model",
        parameters={
            "adapters": Parameter("adapters that are loaded", 8.0, 1.0, 10_000.0, whole=True),
            "rank": Parameter("of each", 16.0, 1.0, 4096.0, whole=True),
        },
        source="Chen et al. 2023, Punica, arXiv:2310.18547; vLLM docs, LoRA adapters",
        limits="each sequence uses one adapter, different ones until all are used; their kernels are counted as matrix products",
        checked="compared with data: 1.6 ms added to a token of 32 adapters, 2 published; servers of 2024 lose more",
        prefill=_adapters,
        decode=_adapters,
        weights=_adapter_bytes,
    ),
    "pruning": Technique(
        title="2:4 sparsity: two of four weights are zero, and matrix units skip them",
        parameters={"pattern": Parameter("zeros among weights that stand together", "2:4", words=("2:4",))},
        source="Mishra et al. 2021, Accelerating Sparse Deep Neural Networks, arXiv:2104.08378",
        limits="kernels reach the same share of the doubled peak as dense ones do of theirs: library kernels reach less",
        checked="bound holds: at most twice, which is the peak that the vendor states",
        refuses=_skips_no_zeros,
        own_units=True,
        weights=_pruned_bytes,
        prefill=_pruned,
        decode=_pruned,
    ),
    "layer-skip": Technique(
        title="Layers left out (early exit, depth pruning)",
        parameters={
            "share": Parameter("share of the layers that is left out, in the mean of all tokens", 0.25, 0.0, 0.95)
        },
        source="Elhoushi et al. 2024, LayerSkip, arXiv:2404.16710",
        limits="deciding where to stop costs nothing; keys of layers left out are not filled in later",
        checked="identity: the time of the layers falls in proportion",
        prefill=_skipped,
        decode=_skipped,
    ),
}
