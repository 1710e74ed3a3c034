"""Run a model on a mesh: a small one token by token against NumPy, and any model's KV cache until a core is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from waferline.errors import DoesNotFitError, InvalidInputError, UnsupportedError, unknown
from waferline.machines.mesh import ELEMENT_BYTES, MeshParameters, check_grid
from waferline.machines.mesh_costs.collectives import transfer_cycles
from waferline.machines.mesh_costs.gemm import tile_words
from waferline.simulate.mesh.memory import ACCUMULATORS, SramLedger, check_formats, core_memory
from waferline.simulate.mesh.result import Accuracy, rounding_tolerance
from waferline.simulate.mesh.transformer.forward import MeshLlama
from waferline.simulate.mesh.transformer.kv import KvRows
from waferline.simulate.mesh.transformer.model import Widths, random_llama, reference_logits, with_weights
from waferline.simulate.mesh.weights import WeightFormat, weight_format
from waferline.workloads.spec import Attention, FeedForward, Transformer

CHECK_HIDDEN, CHECK_LAYERS, CHECK_TOKENS, CHECK_DECODED, CHECK_VOCABULARY = 64, 2, 9, 3, 61
ROUNDINGS_PER_LAYER = 16  # roundings a value passes in one layer: products, norms, softmax, residuals
MOST_GROUP = 8  # query heads of one key/value head; wider groups are checked at one head
MOST_TOKENS = 5_000_000  # filled one by one: half a minute


def simulate_forward(
    model: object, width: int, height: int, *, number_format: str = "fp32", weights: str = "", seed: int = 0
) -> dict[str, Any]:
    """Prefill and decode a small model with `model`'s head grouping on `width` x `height` cores; every logit against NumPy.

    weights: the format that matrices are kept in (`number_format` unless given), such as q4_k.
    Raises:
        UnsupportedError: a model that is not made of equal Llama-style layers.
        InvalidInputError: no cores, or more of a side than the small model is wide.
        UnknownNameError: sums that are neither fp32 nor fp16.
    """
    widths, _ = model_widths(model)
    if not (1 <= width <= CHECK_HIDDEN and 1 <= height <= CHECK_HIDDEN):
        raise InvalidInputError(f"grid {width}x{height}", where="--grid", hint=f"1x1 to {CHECK_HIDDEN}x{CHECK_HIDDEN}")
    if number_format not in ACCUMULATORS:
        raise unknown("number format", number_format, ACCUMULATORS, where="--format")
    form = weight_format(weights or number_format)
    accuracy = check_forward(widths, width, height, number_format, seed, form)
    return {
        "how": "simulated",
        "operation": "forward",
        "grid": [width, height],
        "layers": CHECK_LAYERS,
        "prompt_tokens": CHECK_TOKENS,
        "decoded_tokens": CHECK_DECODED,
        "query_heads_per_key_value_head": widths.group,
        "number_format": number_format,
        "weights": form.name,
        "max_abs_error": accuracy.max_abs_error,
        "tolerance": accuracy.tolerance,
        "passes": accuracy.passes,
        "reference": accuracy.reference,
    }


def check_forward(
    widths: Widths,
    width: int,
    height: int,
    number_format: str = "fp32",
    seed: int = 0,
    form: WeightFormat | None = None,
) -> Accuracy:
    """The largest error of any logit; the tolerance is the rounding walk through all layers, scaled by the largest logit."""
    narrow = widths.group <= MOST_GROUP
    small = Widths(CHECK_HIDDEN, 4 * widths.group if narrow else MOST_GROUP, 4 if narrow else 1, 8, 96)
    model = random_llama(small, CHECK_LAYERS, CHECK_VOCABULARY, seed)
    model = with_weights(model, form) if form is not None and form.quantised else model
    tokens = np.random.default_rng(seed).integers(0, CHECK_VOCABULARY, CHECK_TOKENS + CHECK_DECODED)
    reference = reference_logits(model, tokens)
    mesh = MeshLlama(model, width, height, number_format, form.block if form else 1)
    got = [*mesh.prefill(tokens[:CHECK_TOKENS]), *(mesh.decode(int(t)) for t in tokens[CHECK_TOKENS:])]
    error = float(np.abs(np.stack(got) - reference).max())
    terms = small.intermediate + CHECK_LAYERS * ROUNDINGS_PER_LAYER
    tolerance = rounding_tolerance(terms, float(np.abs(reference).max()), number_format)
    return Accuracy(error, tolerance, f"NumPy Llama of {CHECK_LAYERS} layers with the same head grouping, float64")


def simulate_kv(
    p: MeshParameters,
    model: object,
    width: int,
    height: int,
    *,
    policy: str = "shift",
    number_format: str = "fp16",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Fill a region's KV cache token by token under `policy` until it refuses one. Layers are spread over all regions.

    Raises:
        DoesNotFitError: the weights leave no room for a token.
        UnsupportedError: more tokens than can be filled one by one.
    """
    check_grid(p, width, height)
    check_formats(p, number_format)
    widths, layers = model_widths(model)

    def held(width: int, height: int) -> tuple[int, int, int]:
        """Layers per region, bytes of their weights in one core, and bytes of one token."""
        each = -(-layers // min(layers, max((p.grid_width // width) * (p.grid_height // height), 1)))
        size = each * ELEMENT_BYTES[number_format]
        return each, size * widths.layer_tile(width, height), size * 2 * -(-widths.key_value // width)

    each, _, token = held(width, height)
    # A token more than the weights: without room for it there is nothing to fill.
    core_memory(p, width, height, lambda w, h: {"weights": held(w, h)[1], "KV cache": held(w, h)[2]})
    ledger = SramLedger(p)
    ledger.allocate("weights", held(width, height)[1])
    row_capacity = ledger.free_bytes // token
    cache: KvRows[int] = KvRows(height, row_capacity, policy)
    expected = row_capacity * (height if policy == "shift" else 1)
    if expected > MOST_TOKENS:
        raise UnsupportedError(f"{expected:,} tokens are too many to cache one by one", where="KV cache",
                               hint="a smaller --sram or grid")  # fmt: skip
    for number in range(expected):
        cache.append(number)
        if progress is not None and number % 1024 == 0:
            progress(number, expected)
    words = tile_words(p, 2, -(-widths.key_value // width), number_format)
    shifts = policy == "shift" and height > 1
    return {
        "how": "simulated",
        "operation": "kv",
        "policy": policy,
        "grid": [width, height],
        "device": p.device,
        "parameter_set": p.name,
        "tokens": len(cache),
        "tokens_per_row": row_capacity,
        "token_bytes_per_core": token,
        "free_bytes_per_core": ledger.free_bytes,
        "memory_bytes": ledger.items,
        "memory_limit_bytes": p.sram_bytes,
        "layers_per_region": each,
        "rows": height,
        "row_counts_min": min(cache.counts),
        "row_counts_max": max(cache.counts),
        "passes": cache.passes,
        "in_order": cache.entries() == list(range(expected)),
        # Every row passes one token's slice of K and V to its neighbour, all at once.
        "shift_cycles_per_token": float(transfer_cycles(p, words, 1)) if shifts else 0.0,
        "first_refusal": _refusal(cache, expected),
    }


def _refusal(cache: KvRows[int], token: int) -> str:
    try:
        cache.append(token)
    except DoesNotFitError as error:
        return str(error)
    raise AssertionError("the cache took more tokens than fit")


def model_widths(model: object) -> tuple[Widths, int]:
    """Layer sizes and number of layers of a Llama-style decoder.

    Raises:
        UnsupportedError: layers that differ, or are not softmax attention with a gated dense feed-forward part.
    """
    name = getattr(model, "name", "model")
    if not isinstance(model, Transformer) or model.kind != "decoder":
        raise UnsupportedError(f"{name} is not a decoder", where="mesh transformer", hint="llama-3-8b, for example")
    kinds = {(block.mixer, block.ffn) for block in model.blocks}
    mixer, ffn = next(iter(kinds))
    if len(kinds) > 1 or not isinstance(mixer, Attention) or not isinstance(ffn, FeedForward) or not ffn.gated:
        raise UnsupportedError(f"{name} is not made of equal Llama-style layers", where="mesh transformer",
                               hint="one kind of layer: softmax attention and a gated dense MLP")  # fmt: skip
    sizes = Widths(model.hidden_size, mixer.heads, mixer.kv_heads, mixer.head_dim, ffn.intermediate)
    return sizes, sum(block.count for block in model.blocks)
