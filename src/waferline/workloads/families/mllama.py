"""Llama 3.2 Vision: a decoder of which some layers only see the image, and a tower in two parts.

Source: huggingface/transformers (v5.24), models/mllama.
"""

from __future__ import annotations

from dataclasses import replace

from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import INTERMEDIATE, stack, tied, transformer
from waferline.workloads.families.dense import TRAITS, base_attention
from waferline.workloads.spec import Block, FeedForward, Transformer
from waferline.workloads.streams import Grid, Matrix, Scores, Stage, StreamNet, Tower

_SPARE_ROWS = 8  # of the embedding, for the image's own tokens


def mllama_text(c: ConfigReader) -> Transformer:
    """The decoder: its layers named in `cross_attention_layers` have cross-attention instead of attention."""
    hidden, layers = c.size("hidden_size"), c.layers("num_hidden_layers")
    attention = base_attention(c, TRAITS["llama"], hidden)
    ffn = FeedForward(c.size(*INTERMEDIATE))
    crossing = c.indices("cross_attention_layers", layers) or set()
    cross = replace(attention, causal=False, cross=True, qk_norm=True)
    blocks = (Block(1, None, ffn, cross=cross) if i in crossing else Block(1, attention, ffn) for i in range(layers))
    gates = 2 * len(crossing)
    return transformer(
        c,
        hidden_size=hidden,
        blocks=stack(blocks),
        tied_embeddings=tied(c, False),
        position_params=_SPARE_ROWS * hidden + gates,
    )


def mllama_tower(c: ConfigReader, spec: Transformer) -> Tower:
    """Tiles through local layers, then all tiles together through gated global ones; states of several layers side by side."""
    width, heads = c.size("hidden_size"), c.size("attention_heads", "num_attention_heads")
    inner, side, patch = c.size("intermediate_size"), c.size("image_size"), c.size("patch_size")
    tiles, rows = c.size_or(4, "max_num_tiles"), (side // patch) ** 2 + 1
    ratios = len(c.items("supported_aspect_ratios") or range(8)) + 1
    tables = rows * width * (1 + ratios * tiles) + 2 * ratios * tiles * width + 3
    layer = _layer(width, heads, inner)
    one = Matrix("patches", c.size_or(3, "num_channels") * patch**2, width)
    stages = (
        Stage("embed", 1, (one,), params=5 * width + tables),
        replace(layer, count=c.layers("num_hidden_layers")),
        replace(layer, name="global", count=c.layers("num_global_layers"), params=layer.params + 2),
        Stage("project", 1, (Matrix("1", c.size("vision_output_dim"), spec.hidden_size, bias=True),)),
    )
    grid = Grid(side, side, patch, extra=1, pooled=rows, fixed=True)
    # A whole image is one input of `tiles` tiles, whose rows global layers see together.
    whole = replace(grid, height=side * tiles, extra=tiles, pooled=rows * tiles)
    net = StreamNet(name="the vision tower of mllama", stages=stages, grid=whole)
    return Tower(kind="image", net=net, cross=True, rule=f"{tiles} tiles of {side}x{side}, seen by cross-attention")


def _layer(width: int, heads: int, inner: int) -> Stage:
    matrices = (
        Matrix("qkv", width, 3 * width),
        Matrix("out", width, width, split="k"),
        Matrix("up", width, inner, bias=True),
        Matrix("down", inner, width, bias=True, split="k"),
    )
    return Stage(
        "layer", 1, matrices, (Scores(heads, width // heads),), width=width, norms=2, inner=inner, params=4 * width
    )
