"""The layers of a stack: tensors sorted by layer, each layer read as one block, equal ones merged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from waferline.errors import FileFormatError
from waferline.formats.tensors import TensorInfo
from waferline.workloads.families.common import stack as merged
from waferline.workloads.gguf.architectures import Architecture, Windows
from waferline.workloads.gguf.feed_forward import feed_forward
from waferline.workloads.gguf.header import Header
from waferline.workloads.gguf.layer import Layer
from waferline.workloads.gguf.mixers import cross_attention, mixers
from waferline.workloads.spec import Attention, Block, LatentAttention, Mixer

ENCODER = "enc.blk"
STACKS = ("blk", ENCODER, "dec.blk")
POSITIONS = ("attn_rel_b.weight",)  # positions that all layers of a stack share are in its first
_NAME = re.compile(r"^(?P<stack>(?:enc\.|dec\.)?blk)\.(?P<number>\d+)\.(?P<rest>.+)$")
_PREDICTION = "nextn."  # layers that predict further tokens; llama.cpp does not load them
# What is not known of a layer may be vectors, or a few rows as wide as the model: scales, mixing weights, small gates.
_SMALL_ROWS = 16
# Known matrices that every token meets beside mixer and feed-forward part: per-layer inputs, LAuReL and AltUp (Gemma 3n,
# Gemma 4), a matrix in place of attention (DeciLM), RWKV's receptance.
_SIDE = ("inp_gate.", "proj.", "laurel_l.", "laurel_r.", "altup_", "attn_output.", "channel_mix_receptance.")


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers in order, each with the biases of its norms; `unused`: parameters that no pass reads."""

    layers: tuple[tuple[Block, int], ...] = ()
    unused: int = 0

    @property
    def norm_bias(self) -> bool:
        """Whether every norm has a bias."""
        return all(block.norms == biases for block, biases in self.layers)

    def blocks(self, norm_bias: bool, hidden: int) -> tuple[Block, ...]:
        """Equal layers merged; biases of single norms count as weights beside."""
        return merged(
            block if norm_bias else replace(block, side=block.side + biases * hidden) for block, biases in self.layers
        )


def read_stack(tensors: Mapping[str, TensorInfo], header: Header, architecture: Architecture, name: str) -> Stack:
    """The layers called `name.N`. Raises: FileFormatError for layers that are missing or not understood."""
    layers = _sorted(tensors, name)
    if not layers:
        return Stack()
    count = header.whole("decoder_block_count") if name == "dec.blk" else None
    count = count or header.layers()
    if sorted(layers) != list(range(count)):
        raise FileFormatError(f"the header says {count} layers, the tensors are of {len(layers)}", where=header.where)
    predicted = {n for n, held in layers.items() if any(rest.startswith(_PREDICTION) for rest in held)}
    read = [Layer(layers[n], n, header.where) for n in sorted(layers.keys() - predicted)]
    blocks = tuple(_block(layer, header, architecture) for layer in read)
    unused = sum(t.weights for n in predicted for t in layers[n].values())
    return Stack(blocks, unused + sum(layer.unused for layer in read))


def _sorted(tensors: Mapping[str, TensorInfo], name: str) -> dict[int, dict[str, TensorInfo]]:
    """Layer number → tensor by its name in the layer."""
    layers: dict[int, dict[str, TensorInfo]] = {}
    for full, tensor in tensors.items():
        match = _NAME.match(full)
        if match and match["stack"] == name and match["rest"] not in POSITIONS and len(match["number"]) < 6:
            layers.setdefault(int(match["number"]), {})[match["rest"]] = tensor
    return layers


def _block(layer: Layer, header: Header, architecture: Architecture) -> tuple[Block, int]:
    hidden = header.size("embedding_length")
    found = mixers(layer, header, hidden)
    cross = cross_attention(layer, header) if layer.has("cross_attn_q.weight") else None
    ffn = feed_forward(layer, header, hidden)
    norms, biases = layer.norms(hidden)
    _refuse_unknown(layer, hidden)
    both = bool(found) and ffn is not None
    shared = header.get("use_parallel_residual") is True or architecture.parallel or norms == 1
    placed = [_windowed(mixer, layer.number, header, architecture) for mixer in found]
    block = Block(
        count=1,
        mixer=placed[0] if placed else None,
        beside=placed[1] if len(placed) > 1 else None,
        cross=cross,
        ffn=ffn,
        norms=norms or architecture.bare_norms,
        parallel=both and shared and not architecture.bare_norms,
        side=layer.rest(),
    )
    return block, biases


def _refuse_unknown(layer: Layer, hidden: int) -> None:
    if not layer.rest():
        return
    name, elements = layer.largest_unknown(_SIDE)
    if elements > _SMALL_ROWS * hidden:
        raise layer.wrong(f"'{name}' is not a tensor of a known structure")


def _windowed(mixer: Mixer, number: int, header: Header, architecture: Architecture) -> Mixer:
    """The mixer with the window that this layer slides, and whether it looks ahead."""
    if not isinstance(mixer, Attention | LatentAttention):
        return mixer
    causal = header.get("attention.causal") is not False and architecture.kind != "encoder"
    mixer = replace(mixer, causal=causal)
    rule = architecture.windows
    window = header.whole("attention.sliding_window", number) or (rule.size if rule else None)
    if not window or not _slides(number, header, rule):
        return mixer
    if isinstance(mixer, Attention) and rule is not None and rule.chunked:
        return replace(mixer, window=window, chunked=True)
    return replace(mixer, window=window)


def _slides(number: int, header: Header, rule: Windows | None) -> bool:
    """From the file's pattern, one truth a layer or a period, else from the architecture's."""
    pattern = header.get("attention.sliding_window_pattern")
    if isinstance(pattern, list):
        return number < len(pattern) and bool(pattern[number])
    if pattern is not None:
        period = header.whole("attention.sliding_window_pattern") or 0
        rule = replace(rule, period=period) if rule else Windows(period)
    return rule is not None and rule.slides(number)
