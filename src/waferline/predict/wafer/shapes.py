"""A catalogue model as layers on a mesh: widths per layer, and how often each kind of layer occurs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import UnsupportedError
from waferline.machines.mesh_costs.transformer import LayerShape
from waferline.workloads.spec import Attention, Block, FeedForward, MixtureOfExperts, Transformer


@dataclass(frozen=True, slots=True)
class MeshLayer:
    """`count` equal layers; `window` bounds the tokens that attention looks back on and keeps."""

    count: int
    shape: LayerShape
    window: int | None = None

    def context(self, tokens: FloatArray) -> FloatArray:
        """Cached tokens of one sequence after `tokens`."""
        return tokens if self.window is None else np.minimum(tokens, self.window)


def mesh_layers(model: Transformer, *, released: bool = False) -> list[MeshLayer]:
    """The layers of a decoder, equal ones together, in order of first appearance.

    With `released`, as the released WaferLLM code counts: one head as wide as the model and no grouped-query attention.
    Raises: UnsupportedError for what the mesh mapping does not cover (latent attention, state space, encoders).
    """
    if model.kind != "decoder":
        raise UnsupportedError(f"{model.name} is not a decoder", hint="the wafer mapping covers decoder models")
    kinds: dict[Block, int] = {}
    for block in model.blocks:
        one = replace(block, count=1)
        kinds[one] = kinds.get(one, 0) + block.count
    return [_mesh_layer(model, block, count, released) for block, count in kinds.items()]


def _mesh_layer(model: Transformer, block: Block, count: int, released: bool) -> MeshLayer:
    mixer, ffn = block.mixer, block.ffn
    if not isinstance(mixer, Attention) or block.cross is not None:
        what = "cross-attention" if block.cross is not None else type(mixer).__name__
        raise UnsupportedError(
            f"{model.name} has {what} layers, which the wafer mapping does not cover",
            hint="softmax attention with dense or expert feed-forward parts",
        )
    if not isinstance(ffn, FeedForward | MixtureOfExperts) or getattr(ffn, "latent", None):
        raise UnsupportedError(f"{model.name} has layers that the wafer mapping does not cover")
    if released:
        inner = ffn.intermediate if isinstance(ffn, FeedForward) else ffn.intermediate * ffn.experts_per_token
        return MeshLayer(count, LayerShape.released(model.hidden_size, inner))
    query = mixer.heads * mixer.head_dim * (2 if mixer.output_gate else 1)
    key_value = mixer.kv_heads * mixer.head_dim
    if isinstance(ffn, FeedForward):
        shape = LayerShape(model.hidden_size, query, key_value, ffn.intermediate, ffn.gated)
    else:
        shape = LayerShape(
            model.hidden_size,
            query,
            key_value,
            ffn.intermediate,
            ffn.gated,
            experts=ffn.experts_per_token,
            router=ffn.experts,
            shared=ffn.shared_intermediate,
        )
    return MeshLayer(count, shape, mixer.window)
