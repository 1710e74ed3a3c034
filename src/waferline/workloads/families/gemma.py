"""Gemma 3n and Gemma 4: per-layer inputs, layers that use the keys and values of others, global layers of other sizes.

Source: modeling_gemma3n.py and modeling_gemma4.py of huggingface/transformers (v5.24).
"""

from __future__ import annotations

from dataclasses import replace

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import (
    HIDDEN,
    LAYERS,
    Family,
    check_groups,
    every,
    locals_of,
    self_attention,
    stack,
    tied,
    transformer,
)
from waferline.workloads.families.mixture import experts, per_layer
from waferline.workloads.spec import Attention, Block, FeedForward, Transformer


def _shared(c: ConfigReader, layers: int) -> list[bool]:
    """The last `num_kv_shared_layers` layers use the keys and values of earlier ones."""
    shared = c.size_or(0, "num_kv_shared_layers", least=0)
    if shared > layers:
        raise InvalidInputError(f"{shared} layers share keys and values of only {layers}", where=c.where)
    return [i >= layers - shared for i in range(layers)]


def _per_layer_inputs(c: ConfigReader, hidden: int, layers: int) -> tuple[int, int, int]:
    """Weights of per-layer inputs: in each layer (gate, projection, norm), of the model (projection, norm), in the table."""
    width = c.size_or(0, "hidden_size_per_layer_input", least=0)
    if not width:
        return 0, 0, 0
    rows = c.size("vocab_size_per_layer_input", "vocab_size")
    return 2 * width * hidden + hidden, layers * width * hidden + width, rows * layers * width


def _gemma3n(c: ConfigReader) -> Transformer:
    """Gemma 3n: AltUp over several copies of the residual stream, a low-rank path (LAuReL) beside each attention."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    attention = self_attention(c, hidden, qk_norm=True)
    local = locals_of(c, layers, every(5))
    window, shared = c.optional("sliding_window"), _shared(c, layers)
    copies, rank = c.size_or(4, "altup_num_inputs"), c.size_or(64, "laurel_rank")
    inside, outside, table = _per_layer_inputs(c, hidden, layers)
    altup = 2 * hidden + copies * copies + copies**3 + copies * hidden  # scale, norm, corrections, predictions, router
    laurel = 2 * rank * hidden + hidden
    widths = per_layer(c, layers, "intermediate_size")
    blocks = (
        Block(
            count=1,
            mixer=replace(attention, window=window if local[i] else None, shared_kv=shared[i]),
            ffn=FeedForward(widths[i]),
            norms=4,
            side=inside + altup + laurel,
        )
        for i in range(layers)
    )
    return transformer(
        c,
        hidden_size=hidden,
        blocks=(*stack(blocks), Block(count=1, norms=0, side=outside + 2 * (copies - 1) * hidden * hidden)),
        tied_embeddings=tied(c, True),
        lookup_params=table,
    )


def _gemma4(c: ConfigReader) -> Transformer:
    """Gemma 4: global layers with wider heads, which may cache the key as value; the 26B has experts beside a dense part."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    bias = c.flag(False, "attention_bias")
    near = replace(
        self_attention(c, hidden, qk_norm=True, qkv_bias=bias, out_bias=bias), window=c.optional("sliding_window")
    )
    far = _global(c, near)
    local = locals_of(c, layers, every(6))
    local[-1] = False
    shared = _shared(c, layers)
    inside, outside, table = _per_layer_inputs(c, hidden, layers)
    inner, double = c.size("intermediate_size"), c.flag(False, "use_double_wide_mlp")
    blocks = [
        Block(
            count=1,
            mixer=replace(near if local[i] else far, shared_kv=shared[i]),
            ffn=FeedForward(inner * (2 if double and shared[i] else 1)),
            norms=4,
            side=inside,
        )
        for i in range(layers)
    ]
    if c.flag(False, "enable_moe_block"):
        mixture = experts(c, c.size("moe_intermediate_size"))
        # Two norms behind the parts and one before the experts; the router scales its input and each expert's output.
        blocks.append(Block(count=layers, ffn=mixture, norms=3, side=hidden + mixture.experts))
    if outside:
        blocks.append(Block(count=1, norms=0, side=outside))
    return transformer(c, hidden_size=hidden, blocks=stack(blocks), tied_embeddings=tied(c, True), lookup_params=table)


def _global(c: ConfigReader, near: Attention) -> Attention:
    """The attention of global layers: `global_head_dim`, and fewer key/value heads where key and value are one."""
    same = c.flag(False, "attention_k_eq_v")
    groups = c.optional("num_global_key_value_heads") if same else None
    return replace(
        near,
        window=None,
        head_dim=c.size_or(512, "global_head_dim"),
        kv_heads=check_groups(c, near.heads, near.kv_heads if groups is None else groups),
        value_is_key=same,
    )


FAMILIES: dict[str, Family] = {"gemma3n_text": _gemma3n, "gemma4_text": _gemma4, "gemma4_unified_text": _gemma4}
