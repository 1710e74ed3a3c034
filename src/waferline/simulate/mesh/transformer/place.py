"""Where a model lies on the wafer: layers over regions of the grid's size, and what one core of a region holds."""

from __future__ import annotations

from dataclasses import dataclass

from waferline.errors import UnsupportedError
from waferline.machines.mesh import ELEMENT_BYTES, MeshParameters
from waferline.machines.mesh_costs.attention import Widths
from waferline.simulate.mesh.memory import SramLedger
from waferline.workloads.spec import Attention, FeedForward, Transformer


@dataclass(frozen=True, slots=True)
class Placement:
    """A model's layers over `regions` regions of `width` x `height` cores."""

    widths: Widths
    layers: int
    regions: int
    layers_per_region: int


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


def place(p: MeshParameters, model: object, width: int, height: int) -> Placement:
    """Spread the layers over as many regions as the device has room for (pipeline stages)."""
    widths, layers = model_widths(model)
    room = (p.grid_width // width) * (p.grid_height // height)
    regions = min(layers, max(room, 1))
    return Placement(widths, layers, regions, -(-layers // regions))


def core_memory(
    p: MeshParameters,
    at: Placement,
    width: int,
    height: int,
    *,
    number_format: str,
    cached_tokens: int = 0,
    activation_elements: int = 0,
    batch: int = 1,
) -> SramLedger:
    """One core's SRAM: its share of the region's weights, the KV cache of `cached_tokens`, activations.

    Embedding and language-model head are not on the region (as in the released WaferLLM code).

    Raises:
        DoesNotFitError: it overflows.
    """
    size, ledger = ELEMENT_BYTES[number_format], SramLedger(p)
    w = at.widths
    ledger.allocate("weights", at.layers_per_region * layer_tile_elements(w, width, height) * size)
    if cached_tokens:
        ledger.allocate("KV cache", batch * -(-cached_tokens // height) * token_bytes(p, at, width, number_format))
    if activation_elements:
        ledger.allocate("activations", activation_elements * size)
    return ledger


def layer_tile_elements(w: Widths, width: int, height: int) -> int:
    """Weights of one layer in one core: a tile of each matrix, padded."""

    def tile(rows: int, columns: int) -> int:
        return -(-rows // height) * -(-columns // width)

    attention = 2 * tile(w.hidden, w.query) + 2 * tile(w.hidden, w.key_value)
    return attention + 3 * tile(w.hidden, w.intermediate) + 2 * -(-w.hidden // width)


def token_bytes(p: MeshParameters, at: Placement, width: int, number_format: str) -> int:
    """Bytes one cached token takes in each core of its row, over the region's layers."""
    return 2 * -(-at.widths.key_value // width) * at.layers_per_region * ELEMENT_BYTES[number_format]
