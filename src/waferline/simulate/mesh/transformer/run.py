"""Simulate prefill, decode and the KV cache of a model on a mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from waferline.errors import DoesNotFitError, InvalidInputError, UnsupportedError
from waferline.machines.mesh import MeshParameters, check_grid
from waferline.machines.mesh_costs import attention as costs
from waferline.machines.mesh_costs import transformer as fitted
from waferline.machines.mesh_costs.collectives import ktree_groups, parse_reduction, reduction_colours, transfer_cycles
from waferline.machines.mesh_costs.gemm import gemm_colours
from waferline.simulate.mesh import compliance as plmr
from waferline.simulate.mesh.colours import check_colours
from waferline.simulate.mesh.memory import SramLedger, check_formats
from waferline.simulate.mesh.result import Accuracy, MeshResult, rounding_tolerance
from waferline.simulate.mesh.transformer.forward import MeshLlama
from waferline.simulate.mesh.transformer.kv import KvRows
from waferline.simulate.mesh.transformer.model import random_llama, reference_logits
from waferline.simulate.mesh.transformer.place import Placement, core_memory, place, token_bytes

CHECK_GRID, CHECK_LAYERS, CHECK_TOKENS, CHECK_DECODED = (4, 4), 2, 9, 3
ROUNDINGS_PER_LAYER = 16  # roundings a value passes in one layer: products, norms, softmax, residuals


def check_small_model(widths: costs.Widths, number_format: str = "fp32", seed: int = 0) -> Accuracy:
    """Prefill and decode a small model with the same head grouping on a 4 x 4 mesh, against NumPy in float64.

    The tolerance is the rounding walk through all layers, scaled by the largest logit.
    """
    small = costs.Widths(64, 4 * widths.group if widths.group <= 8 else 8, 4 if widths.group <= 8 else 1, 8, 96)
    model = random_llama(small, CHECK_LAYERS, 61, seed)
    tokens = np.random.default_rng(seed).integers(0, 61, CHECK_TOKENS + CHECK_DECODED)
    reference = reference_logits(model, tokens)
    mesh = MeshLlama(model, *CHECK_GRID, number_format)
    got = [*mesh.prefill(tokens[:CHECK_TOKENS]), *(mesh.decode(int(t)) for t in tokens[CHECK_TOKENS:])]
    error = float(np.abs(np.stack(got) - reference).max())
    terms = small.intermediate + CHECK_LAYERS * ROUNDINGS_PER_LAYER
    tolerance = rounding_tolerance(terms, float(np.abs(reference).max()), number_format)
    name = f"NumPy Llama of {CHECK_LAYERS} layers (same head grouping) on a {CHECK_GRID[0]}x{CHECK_GRID[1]} mesh"
    return Accuracy(error, tolerance, name)


def simulate_prefill(
    p: MeshParameters,
    model: object,
    width: int,
    height: int,
    *,
    context: int = 4096,
    batch: int = 1,
    number_format: str = "fp16",
    released: bool = False,
    data: bool = True,
) -> MeshResult:
    """Process a prompt of `context` tokens (`batch` prompts one after another): all layers, region after region.

    `released` counts as the paper's code does: one head as wide as the model, padded sizes, fitted cycles of one layer
    times the number of layers.

    Raises:
        DoesNotFitError: weights, cache and activations overflow a core.
    """
    at = _placed(p, model, width, height, number_format, context, batch, released)
    w, rows = at.widths, -(-context // height)
    wide = max(w.query + 2 * w.key_value, 2 * w.intermediate)
    tiles = rows * (2 * -(-w.hidden // width) + -(-wide // width)) + -(-max(w.intermediate, w.hidden) // height) * (
        -(-max(w.intermediate, w.query) // width)
    )
    ledger = core_memory(p, at, width, height, number_format=number_format, cached_tokens=context,
                         activation_elements=tiles, batch=batch)  # fmt: skip
    if released:
        layer = fitted.prefill_layer(
            _released(at), _square(width, height), context, parameters=p, number_format=number_format
        )
        parts = [costs.Part("released layer", float(layer.compute), float(layer.communication), float(layer.total))]
    else:
        parts = costs.prefill_parts(p, w, context, width, height, number_format)
    colours = gemm_colours("meshgemm", width, height) + 2 * (width > 1)  # and the reduction of GEMM-T along x
    check_colours(p, colours, what="prefill")
    return _result(p, "prefill", at, parts, (width, height), ledger, colours, number_format, data,
                   passes=batch, tokens=batch * context, context=context, released=released)  # fmt: skip


def simulate_decode(
    p: MeshParameters,
    model: object,
    width: int,
    height: int,
    *,
    context: int = 4096,
    batch: int = 1,
    reduction: str = "ktree:2",
    number_format: str = "fp16",
    released: bool = False,
    data: bool = True,
) -> MeshResult:
    """Generate one token for each of `batch` sequences with `context` cached tokens.

    Raises:
        DoesNotFitError: weights and cache overflow a core, or the reduction its colours.
    """
    at = _placed(p, model, width, height, number_format, context, batch, released)
    w = at.widths
    wide = max(w.query + 2 * w.key_value, 2 * w.intermediate)
    values = batch * (2 * -(-w.hidden // height) + -(-wide // width) + w.group * -(-context // height))
    ledger = core_memory(p, at, width, height, number_format=number_format, cached_tokens=context,
                         activation_elements=values, batch=batch)  # fmt: skip
    parse_reduction(reduction)
    colours = reduction_colours(reduction) * ((width > 1) + (height > 1)) + (2 if height > 1 else 0)  # and the KV shift
    check_colours(p, colours, what=f"decode with {reduction} on both axes")
    if released:
        side = _square(width, height)
        groups = fitted.RELEASED_GROUPS.get(side, round(side / ktree_groups(side, 2)[0]))
        layer = fitted.decode_layer(
            _released(at), side, groups, context, batch, parameters=p, number_format=number_format
        )
        parts = [costs.Part("released layer", float(layer.compute), float(layer.communication), float(layer.total))]
    else:
        parts = costs.decode_parts(p, w, context, width, height, number_format, batch=batch, reduction=reduction)
    return _result(p, "decode", at, parts, (width, height), ledger, colours, number_format, data,
                   passes=1, tokens=batch, context=context, released=released)  # fmt: skip


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
    """Fill a region's KV cache token by token under `policy` until it refuses one.

    Raises:
        DoesNotFitError: the weights leave no room for a token.
    """
    at = _placed(p, model, width, height, number_format)
    ledger = core_memory(p, at, width, height, number_format=number_format)
    each = token_bytes(p, at, width, number_format)
    row_capacity = ledger.free_bytes // each
    if row_capacity < 1:
        raise DoesNotFitError(f"a token takes {each} bytes and {ledger.free_bytes} are free", where="core SRAM",
                              hint="larger grid or narrower number format")  # fmt: skip
    cache: KvRows[int] = KvRows(height, row_capacity, policy)
    expected = row_capacity * (height if policy == "shift" else 1)
    for token in range(expected):
        cache.append(token)
        if progress is not None and token % 1024 == 0:
            progress(token, expected)
    refusal = _refusal(cache, expected)
    in_order = cache.entries() == list(range(expected))
    shift = costs.kv_shift_cycles(p, at.widths, width, height, number_format) if policy == "shift" else 0.0
    return {
        "how": "simulated",
        "operation": "kv",
        "policy": policy,
        "grid": [width, height],
        "device": p.device,
        "parameter_set": p.name,
        "tokens": len(cache),
        "tokens_per_row": row_capacity,
        "token_bytes_per_core": each,
        "free_bytes_per_core": ledger.free_bytes,
        "memory_bytes": ledger.items,
        "memory_limit_bytes": p.sram_bytes,
        "layers_per_region": at.layers_per_region,
        "rows": height,
        "row_counts_min": min(cache.counts),
        "row_counts_max": max(cache.counts),
        "passes": cache.passes,
        "in_order": in_order,
        "shift_cycles_per_token": shift,
        "first_refusal": refusal,
    }


def _refusal(cache: KvRows[int], token: int) -> str:
    try:
        cache.append(token)
    except DoesNotFitError as error:
        return str(error)
    raise AssertionError("the cache took more tokens than fit")


def _placed(
    p: MeshParameters,
    model: object,
    width: int,
    height: int,
    number_format: str,
    context: int = 1,
    batch: int = 1,
    released: bool = False,
) -> Placement:
    check_grid(p, width, height)
    check_formats(p, number_format)
    if context < 1 or batch < 1:
        raise InvalidInputError(f"context {context} and batch {batch} must be positive", where="mesh transformer")
    at = place(p, model, width, height)
    return replace(at, regions=1, layers_per_region=1) if released else at  # the released code holds one layer


def _square(width: int, height: int) -> int:
    if width != height:
        raise UnsupportedError(f"the released code runs on square grids, not {width}x{height}", where="--released")
    return width


def _released(at: Placement) -> fitted.LayerShape:
    return fitted.LayerShape.released(at.widths.hidden, at.widths.intermediate)


def _result(
    p: MeshParameters,
    phase: str,
    at: Placement,
    parts: list[costs.Part],
    grid: tuple[int, int],
    ledger: SramLedger,
    colours: int,
    number_format: str,
    data: bool,
    *,
    passes: int,
    tokens: int,
    context: int,
    released: bool,
) -> MeshResult:
    width, height = grid
    layer = sum(part.total for part in parts)
    words = -(-at.widths.hidden // width) * (tokens if phase == "decode" else -(-context // height))
    hand_off = float(transfer_cycles(p, -(-words // p.elements_per_word(number_format)), width))
    times = at.layers * passes
    cycles = times * layer + passes * (at.regions - 1) * hand_off
    compute, move = (times * sum(getattr(part, name) for part in parts) for name in ("compute", "communication"))
    at_once, start, rows = layer * at.layers_per_region, 0.0, list[dict[str, Any]]()
    for step, part in enumerate(parts):
        rows.append({"step": step, "name": part.name, "start_cycles": start, "compute_cycles": part.compute,
                     "communication_cycles": part.communication, "cycles": part.total})  # fmt: skip
        start += part.total
    seconds = cycles / p.clock_hz
    return MeshResult(
        operation=phase,
        algorithm="released" if released else "grouped-query",
        width=width,
        height=height,
        parameters=p,
        fidelity="closed",
        cycles=cycles,
        compute_cycles=compute,
        communication_cycles=move + passes * (at.regions - 1) * hand_off,
        overlap_cycles=max(0.0, round(compute + move - times * layer, 3)),
        steps=len(parts),
        hop_words=0,
        colours=colours,
        memory_bytes=ledger.items,
        compliance=_compliance(p, at, grid, ledger, colours, phase, context),
        accuracy=check_small_model(at.widths) if data and not released else None,
        trace=rows,
        details={
            "layers": at.layers,
            "layer_cycles": layer,
            "regions": at.regions,
            "layers_per_region": at.layers_per_region,
            "hand_off_cycles": hand_off,
            "tokens_per_s": tokens / seconds,
            "pipelined_tokens_per_s": tokens / passes * p.clock_hz / (at_once + (hand_off if at.regions > 1 else 0.0)),
            "context": context,
            "number_format": number_format,
            "excludes": "embedding, language-model head, sampling",
        },
    )


def _compliance(
    p: MeshParameters, at: Placement, grid: tuple[int, int], ledger: SramLedger, colours: int, phase: str, context: int
) -> plmr.Compliance:
    width, height = grid
    along_y = at.widths.hidden if phase == "decode" else context
    idle = width * max(0, height - along_y) + height * max(0, width - at.widths.hidden)
    hops = max(width, height) - 1
    latency = plmr.latency("hops per all-reduce broadcast", hops, 2 * max(width, height), "an axis of the region")
    return plmr.Compliance(
        plmr.parallelism(idle, width * height, "rows or columns beyond the activations"),
        latency,
        plmr.memory(ledger.used_bytes, p.sram_bytes),
        plmr.routing(colours, p.colours),
    )
