"""Decoders whose layers differ in size: DeciLM and Nemotron-NAS, OpenELM.

Sources: configuration_decilm.py and block_config.py beside nvidia/Llama-3_3-Nemotron-Super-49B-v1, configuration_openelm.py
beside apple/OpenELM-1_1B, and llama.cpp's convert_hf_to_gguf.py, which reads both.
"""

from __future__ import annotations

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import MAX_SIZE, ConfigReader
from waferline.workloads.families.common import (
    HIDDEN,
    INTERMEDIATE,
    LAYERS,
    Family,
    check_groups,
    grouped_heads,
    heads,
    stack,
    tied,
    transformer,
)
from waferline.workloads.families.dense import TRAITS, dense
from waferline.workloads.spec import Attention, Block, FeedForward, Transformer

_MULTIPLE = 256  # Nemotron-NAS rounds its feed-forward widths up to multiples of this


def _deci(c: ConfigReader) -> Transformer:
    """DeciLM-7B: Llama with a number of key/value heads for each layer; Nemotron-NAS: a variant for each layer."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    queries, width = heads(c, hidden)
    configs = c.items("block_configs", length=layers)
    if configs is not None:
        blocks = [_variant(c, i, config, hidden, queries, width) for i, config in enumerate(configs)]
    else:
        per_layer = c.items("num_key_value_heads_per_layer", length=layers)
        if per_layer is None:
            return dense(c, TRAITS["llama"])
        ffn = FeedForward(intermediate=c.size(*INTERMEDIATE))
        groups = [ConfigReader({"num_key_value_heads": n}, c.where) for n in per_layer]
        blocks = [Block(count=1, mixer=Attention(queries, grouped_heads(g, queries), width), ffn=ffn) for g in groups]
    return transformer(c, hidden_size=hidden, blocks=stack(blocks), tied_embeddings=tied(c, False))


def _variant(c: ConfigReader, layer: int, config: object, hidden: int, queries: int, width: int) -> Block:
    """One layer: attention with groups of `n_heads_in_group` heads, a linear map in its place, or nothing; likewise below."""
    inside = ConfigReader({f"block_configs[{layer}]": config}, c.where).section(f"block_configs[{layer}]")
    if inside is None:
        raise InvalidInputError(f"block_configs[{layer}] is empty", where=c.where)
    attention, below = inside.section("attention"), inside.section("ffn")
    mixer, ffn, norms, side = None, None, 0, 0
    if attention is not None and not attention.flag(False, "no_op"):
        norms += 1
        if attention.flag(False, "replace_with_linear"):
            side += hidden * hidden
        else:
            shared = attention.optional("n_heads_in_group")
            groups = attention.size("num_key_value_heads") if shared is None else queries // min(shared, queries)
            mixer = Attention(queries, check_groups(c, queries, groups), width)
    if below is not None and not below.flag(False, "no_op"):
        norms += 1
        if below.flag(False, "replace_with_linear"):
            side += hidden * hidden
        else:
            ffn = FeedForward(below.optional("intermediate_size") or _width(below, hidden))
    return Block(count=1, mixer=mixer, ffn=ffn, norms=norms, side=side)


def _width(below: ConfigReader, hidden: int) -> int:
    below.need("ffn_mult")
    inner = int(2 * below.number(0.0, "ffn_mult") * hidden / 3)
    if not 0 < inner <= MAX_SIZE:
        raise InvalidInputError(f"'ffn_mult' gives a feed-forward width of {inner}", where=below.where)
    return -(-inner // _MULTIPLE) * _MULTIPLE


def _openelm(c: ConfigReader) -> Transformer:
    """OpenELM (arXiv:2404.14619, section 2.1): heads and feed-forward widths grow from layer to layer."""
    hidden, layers = c.size("model_dim", *HIDDEN), c.layers("num_transformer_layers", *LAYERS)
    width, divisor = c.size("head_dim"), c.size_or(256, "ffn_dim_divisor")
    queries, groups = c.items("num_query_heads", length=layers), c.items("num_kv_heads", length=layers)
    wider = c.items("ffn_multipliers", length=layers)
    if queries is None or groups is None or wider is None:
        c.need("num_query_heads"), c.need("num_kv_heads"), c.need("ffn_multipliers")
        raise InvalidInputError("OpenELM needs 'num_query_heads', 'num_kv_heads', 'ffn_multipliers'", where=c.where)
    norm, gated = c.flag(True, "normalize_qk_projections"), c.flag(True, "ffn_with_glu")
    blocks = []
    for i in range(layers):
        own = ConfigReader(
            {"num_query_heads": queries[i], "num_kv_heads": groups[i], "ffn_multipliers": wider[i]}, c.where
        )
        number = own.size("num_query_heads")
        inner = _divisible(own, hidden, divisor)
        attention = Attention(number, check_groups(c, number, own.size("num_kv_heads")), width, qk_norm=norm)
        blocks.append(Block(count=1, mixer=attention, ffn=FeedForward(inner, gated=gated)))
    return transformer(
        c,
        hidden_size=hidden,
        blocks=stack(blocks),
        tied_embeddings=c.flag(True, "share_input_output_layers"),
        max_positions=c.size_or(0, "max_context_length", least=0),
    )


def _divisible(c: ConfigReader, hidden: int, divisor: int) -> int:
    """`ffn_multipliers` times the width, rounded to a multiple of `divisor`, never down by more than a tenth."""
    wanted = c.number(0.0, "ffn_multipliers") * hidden
    if not 0 < wanted <= MAX_SIZE:
        raise InvalidInputError(f"'ffn_multipliers' gives a feed-forward width of {wanted:g}", where=c.where)
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wanted else rounded


FAMILIES: dict[str, Family] = {"deci": _deci, "nemotron-nas": _deci, "openelm": _openelm}
