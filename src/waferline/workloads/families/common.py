"""What every family of model configurations shares: attention sizes, layer stacks, window patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.context import trained_context
from waferline.workloads.spec import Attention, Block, ModelSpec, Transformer

# A family turns a configuration into a model; name, title and sources are put in afterwards.
Family = Callable[[ConfigReader], ModelSpec]

HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "model_dim")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "multi_query_group_num")
HEAD_DIM = ("head_dim", "kv_channels", "attention_head_dim")
INTERMEDIATE = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "block_ff_dim")
WINDOW = ("sliding_window", "sliding_window_size", "attention_window_size", "window_size")
_LOCAL = frozenset({"sliding_attention", "hybrid_sliding", "local_attention", "local", "sliding", "sliding_window"})
FULL = ("full_attention", "attention", "global_attention")


def heads(c: ConfigReader, hidden: int, *keys: str) -> tuple[int, int]:
    """Query heads and the width of one, which is `hidden / heads` unless `head_dim` says otherwise."""
    count = c.size(*(keys or HEADS))
    width = c.optional(*HEAD_DIM)
    if width is None:
        if hidden % count:
            raise InvalidInputError(f"hidden size {hidden} is not a multiple of {count} attention heads", where=c.where)
        width = hidden // count
    return count, width


def grouped_heads(c: ConfigReader, queries: int, *keys: str) -> int:
    """Key/value heads: as many as query heads unless the configuration has fewer."""
    groups = c.optional(*(keys or KV_HEADS))
    if groups is None and not keys and not c.said(*KV_HEADS):
        c.assumed[KV_HEADS[0]] = queries
    return check_groups(c, queries, queries if groups is None else groups)


def check_groups(c: ConfigReader, queries: int, key_values: int) -> int:
    """`key_values`, refused unless it divides `queries`."""
    if key_values > queries or queries % key_values:
        raise InvalidInputError(
            f"{queries} query heads cannot share {key_values} key/value heads equally", where=c.where
        )
    return key_values


def check_experts(c: ConfigReader, experts: int, per_token: int) -> None:
    """Refuses more active experts than there are."""
    if per_token > experts:
        raise InvalidInputError(f"{per_token} experts per token of only {experts}", where=c.where)


def stack(layers: Iterable[Block]) -> tuple[Block, ...]:
    """Equal layers merged into one block each, in order of first appearance: order does not change cost."""
    places: dict[Block, list[int]] = {}
    at = 0
    for layer in layers:
        places.setdefault(layer, []).extend(range(at, at + layer.count))
        at += layer.count
    return tuple(replace(layer, count=len(where), places=tuple(where)) for layer, where in places.items())


def repeat(layer: Block, count: int) -> tuple[Block, ...]:
    return (replace(layer, count=count),)


def every(period: int) -> Callable[[int], bool]:
    """All layers attend through the window but each `period`-th."""
    return lambda layer: (layer + 1) % period != 0


def everywhere(layer: int) -> bool:
    """Every layer attends through the sliding window."""
    return True


def windows(c: ConfigReader, count: int, sliding: Callable[[int], bool]) -> list[int | None]:
    """The sliding window of each layer: as `layer_types` or a pattern says, else where `sliding(layer)` does."""
    if not c.flag(True, "use_sliding_window"):
        return [None] * count
    window = c.optional(*WINDOW)
    return [window if is_local else None for is_local in locals_of(c, count, sliding)]


def locals_of(c: ConfigReader, count: int, sliding: Callable[[int], bool]) -> list[bool]:
    """Whether each layer attends locally."""
    kinds = c.kinds({*_LOCAL, *FULL}, "layer_types", length=count)
    if kinds is not None:
        return [kind in _LOCAL for kind in kinds]
    pattern = c.get("sliding_window_pattern", "_sliding_window_pattern")
    first = c.size_or(0, "max_window_layers", least=0)
    if isinstance(pattern, str) and pattern and not set(pattern.upper()) - set("LG"):
        return [pattern.upper()[i % len(pattern)] == "L" for i in range(count)]
    if pattern is not None:
        sliding = every(c.size("sliding_window_pattern", "_sliding_window_pattern"))
    return [i >= first and sliding(i) for i in range(count)]


def transformer(c: ConfigReader, **fields: Any) -> Transformer:
    """A `Transformer` with the facts that every configuration states the same way."""
    positions, rule = trained_context(c)
    defaults: dict[str, Any] = {"name": "", "title": "", "family": "", "max_positions": positions, "context_rule": rule}
    if "vocab_size" not in fields:
        fields["vocab_size"] = c.size("vocab_size", "padded_vocab_size")
    return Transformer(**(defaults | fields))


def tied(c: ConfigReader, default: bool) -> bool:
    return c.flag(default, "tie_word_embeddings")


def self_attention(c: ConfigReader, hidden: int, **fields: Any) -> Attention:
    """Grouped-query attention of the usual keys."""
    queries, width = heads(c, hidden)
    return Attention(heads=queries, kv_heads=grouped_heads(c, queries), head_dim=width, **fields)


def classes(c: ConfigReader) -> int:
    """Classes of an image head: as many as `id2label` names, else `num_labels`, else ImageNet's 1000."""
    labels = c.get("id2label")
    return len(labels) if isinstance(labels, Mapping) and labels else c.size_or(1000, "num_labels")


def merged(*tables: Mapping[str, Family]) -> dict[str, Family]:
    """Family tables as one; a name in two of them is a mistake."""
    result: dict[str, Family] = {}
    for table in tables:
        if result.keys() & table.keys():
            raise ValueError(f"families in two tables: {sorted(result.keys() & table.keys())}")
        result |= table
    return result
