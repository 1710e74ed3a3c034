"""Networks that published tables measured, by their counts: operators of each class, with their work, weights and traffic.

`data/networks.csv.gz` has one sample of each network at one size, counted as its library builds it (timm 1.0.31, torchvision
0.29.1, diffusers 0.42.1; detectors and medical nets after their papers, proposals of a thousand boxes; DLRM and RNN-T after
MLPerf's reference models, of 270 pairs and a sentence of seven seconds a sample). A network at another size
is scaled by its area. Operators of one class are taken alike: the mean of each stands for all.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from waferline.catalog.names import compact
from waferline.workloads.spec import ConvNet, Work

_FILE = Path(__file__).parent / "data" / "networks.csv.gz"
_HEAD_DIM = 64  # of attention, whose heads the counts do not keep
_PATCH = 9  # of a grouped convolution, places that a kernel sees: 3 × 3
_STREAMS: tuple[tuple[str, Literal["norm", "softmax", "elementwise"]], ...] = (
    ("norm", "norm"),
    ("softmax", "softmax"),
    ("elem", "elementwise"),
)
_WINDOW, _SIDE, _CLASSES = "3d-unet-window", 128, 3
_CHANNELS = (32, 64, 128, 256, 320, 320)
# Normaliser-free networks (arXiv:2102.06171), whose norms are of weights: once a pass, whatever the batch.
_NORMALISES_WEIGHTS = re.compile(r"(?:dm-|eca-)?nfnet|nf-")
_SPELT = ("", "torchvision", "tf", "timm")  # under which libraries list it


class Class(NamedTuple):
    """Operators of one class in one pass over one sample. elements: read and written."""

    operators: int
    macs: float
    params: int
    elements: float


class Counts(NamedTuple):
    name: str
    size: int
    params: int
    classes: Mapping[str, Class]


@cache
def _counts() -> Mapping[str, list[Counts]]:
    """Compact name → the sizes it was counted at."""
    found: dict[str, list[Counts]] = {}
    with gzip.open(_FILE, "rt", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    names = [n.removesuffix("_count") for n in header[3::4]]
    for name, size, params, *cells in rows:
        numbers = [int(c) for c in cells]
        classes = {n: Class(*numbers[4 * i : 4 * i + 4]) for i, n in enumerate(names)}
        found.setdefault(compact(name), []).append(Counts(name, int(size), int(params), classes))
    return found


def counted(name: str, size: int = 0) -> Counts | None:
    """The counts of a network called so, of the size nearest to `size` (0: any); None for one that was not counted."""
    key = compact(name)
    for spelt in _SPELT:
        sizes = _counts().get(spelt + key)
        if sizes:
            return min(sizes, key=lambda c: abs(c.size - size)) if size else sizes[-1]
    return None


Form = Literal["fused", "eager", "apart"]


def network(name: str, *, size: int = 0, steps: float = 1.0, form: Form = "fused") -> ConvNet | None:
    """The network at `size` pixels a side (0: as it was counted), passed `steps` times; None for one that was not counted.

    form: fused, where batch norms are folded into convolutions, and activation functions and additions run inside other
    operators; eager, where attention alone is one kernel; apart, where its scores pass through memory as well.
    """
    if name == _WINDOW:
        return ConvNet(
            name=name, title=name, family="counted", layers=tuple(_unet_3d(steps)), input_shape=(1, *[_SIDE] * 3)
        )
    found = counted(name, size)
    if found is None:
        return None
    area = (size / found.size) ** 2 if size else 1.0
    layers = tuple(_layers(found, area, steps, form))
    side = size or found.size
    return ConvNet(name=name, title=name, family="counted", layers=layers, input_shape=(3, side, side))


def _unet_3d(windows: float) -> Iterator[Work]:
    """3D U-Net layer by layer: its first and last have 32 channels, so what a mean layer reaches says nothing of it.

    mlcommons/training, image_segmentation/pytorch/model/unet3d.py. An instance norm needs all of a channel before it scales any,
    so no compiler folds it into a convolution: it runs with its activation as a kernel of its own.
    """

    def conv(side: int, n: int, k: int, channels: int, norm: bool = True) -> Iterator[Work]:
        voxels, out = round(side**3 * windows), round(side**3 * n * windows)
        yield Work(
            name="conv", kind="conv", m=voxels, n=n, k=k, params=n * k, weight_bytes=2 * n * k,
            input_elements=voxels * channels, output_elements=out,
        )  # fmt: skip
        if norm:
            yield Work(name="norm", kind="norm", params=2 * n, input_elements=out, output_elements=out)

    before, side = 1, _SIDE
    for level, channels in enumerate(_CHANNELS):
        side = _SIDE >> level
        for inputs in (before, channels):
            yield from conv(side, channels, 27 * inputs, inputs)
        before = channels
    for level in range(len(_CHANNELS) - 2, -1, -1):
        below, channels, side = _CHANNELS[level + 1], _CHANNELS[level], _SIDE >> level
        yield from conv(side // 2, 8 * channels, below, below, norm=False)  # transposed, 2 × 2 × 2 without overlap
        yield from conv(side, channels, 27 * 2 * channels, 2 * channels)
        yield from conv(side, channels, 27 * channels, channels)
    yield from conv(side, _CLASSES, _CHANNELS[0], _CHANNELS[0], norm=False)


def _layers(c: Counts, area: float, steps: float, form: Form) -> Iterator[Work]:
    for name in ("conv", "group", "gemm", "attn"):
        each = c.classes[name]
        if each.operators:
            yield _matrix(name, each if name != "attn" or form == "apart" else _one_kernel(each), area, steps)
    convolves = c.classes["conv"].macs + c.classes["group"].macs > c.classes["gemm"].macs
    hidden = {
        "fused": ("softmax", "elementwise", *(("norm",) if convolves else ())),
        "eager": ("softmax",),
        "apart": (),
    }
    for name, kind in _STREAMS:
        each = c.classes[name]
        if not each.operators or kind in hidden[form] or (kind == "norm" and _NORMALISES_WEIGHTS.match(c.name)):
            continue
        elements = each.elements * area
        yield Work(
            name=name,
            kind=kind,
            count=max(round(each.operators * steps), 1),
            input_elements=round(elements * steps / 2.0),
            output_elements=round(elements * steps / 2.0),
        )


def _one_kernel(each: Class) -> Class:
    """Both products of an attention in one kernel, which keeps the scores between on chip (FlashAttention, arXiv:2205.14135)."""
    scores = each.macs / _HEAD_DIM
    return Class(max(each.operators // 2, 1), each.macs, each.params, max(each.elements - scores, 0.0))


def _matrix(name: str, each: Class, area: float, steps: float) -> Work:
    """The mean operator of a class, as often as the class has operators."""
    count = max(round(each.operators * steps), 1)
    macs = each.macs * (area**2 if name == "attn" else area) / each.operators
    weights = each.params / each.operators
    groups, n, k = 1, 0, 0
    if name == "attn" or not weights:
        n, k = max(round(math.sqrt(macs / _HEAD_DIM)), 1), _HEAD_DIM
    elif name == "group":
        # As wide as its channels and weights say: a place reads and writes each channel once.
        channels = each.elements / each.operators / 2.0 / (macs / area / weights)
        k = max(round(weights / channels), _PATCH)
        n = max(k // _PATCH, 1)
        groups = max(round(weights / (n * k)), 1)
    else:
        n = k = max(round(math.sqrt(weights)), 1)
    elements = round(each.elements * area * steps)
    return Work(
        name=name,
        kind="conv" if name in ("conv", "group") else "gemm",
        m=max(round(macs / (n * k * groups)), 1),
        n=n,
        k=k,
        groups=groups,
        count=count,
        kernels=1 if weights else count,
        params=round(each.params),
        weight_bytes=round(2 * each.params * steps),
        input_elements=elements // 2,
        output_elements=elements - elements // 2,
    )
