"""The feed-forward part of a layer: dense, or experts with what every token takes beside them."""

from __future__ import annotations

from waferline.workloads.gguf.header import Header
from waferline.workloads.gguf.layer import Layer
from waferline.workloads.spec import FeedForward, Ffn, MixtureOfExperts


def feed_forward(layer: Layer, header: Header, hidden: int) -> Ffn | None:
    """The part whose tensors a layer has; None where it has none.

    Raises: FileFormatError for experts that the header does not describe.
    """
    if layer.has("ffn_down_exps.weight"):
        return _experts(layer, header, hidden)
    if layer.has("channel_mix_value.weight"):  # RWKV; a receptance, where it has one, is left to the other weights
        layer.need("channel_mix_key.weight")
        return FeedForward(layer.need("channel_mix_value.weight")[1], gated=False)
    return _dense(layer)


def _dense(layer: Layer) -> FeedForward | None:
    """Up (with the gate beside it, on top of it, or none) and down."""
    down = layer.matrix("ffn_down.weight")
    if down is None:
        return None
    up, gate = layer.need("ffn_up.weight"), layer.matrix("ffn_gate.weight")
    inner = down[1]
    gated = gate is not None or up[0] == 2 * inner
    if up[0] != inner * (2 if gated and gate is None else 1) or (gate is not None and gate[0] != inner):
        raise layer.wrong(f"'ffn_up' has {up[0]} rows for {inner} columns of 'ffn_down'")
    biases = ("ffn_up.bias", "ffn_down.bias", *(("ffn_gate.bias",) if gate else ()))
    return FeedForward(inner, gated, bias=layer.all(*biases), inner_norm=layer.elements("ffn_sub_norm.weight") == inner)


def _experts(layer: Layer, header: Header, hidden: int) -> MixtureOfExperts:
    """Routed experts, and as shared ones what all tokens take: shared experts, a dense part in the same layer."""
    shape = layer.shape("ffn_down_exps.weight")
    layer.need("ffn_down_exps.weight")
    if len(shape) != 3:
        raise layer.wrong(f"'ffn_down_exps' has {len(shape)} dimensions")
    number, width, inner = shape
    active = header.size("expert_used_count", layer.number)
    if active > number or number != header.size("expert_count", layer.number):
        raise layer.wrong(f"{active} experts of {number} in the tensors, {header.get('expert_count')} in the header")
    fused = layer.elements("ffn_gate_up_exps.weight")
    ups = fused + sum(layer.elements(f"ffn_{name}_exps.weight") for name in ("up", "gate"))
    matrices = ups // (number * inner * width)
    if ups != matrices * number * inner * width or matrices not in (1, 2):
        raise layer.wrong(f"{ups} weights of up projections are not {number} experts of {inner}")
    names = ("gate_up",) if fused else ("up", "gate")[:matrices]
    router = layer.need("ffn_gate_inp.weight")
    if router[0] != number:
        raise layer.wrong(f"'ffn_gate_inp' chooses among {router[0]} experts, there are {number}")
    latent = [layer.elements(f"ffn_latent_{name}.weight") for name in ("down", "up")]
    return MixtureOfExperts(
        experts=number,
        experts_per_token=active,
        intermediate=inner,
        shared_intermediate=_shared(layer, gated=matrices == 2),
        gated=matrices == 2,
        bias=layer.all(*(f"ffn_{name}_exps.bias" for name in (*names, "down"))),
        router_bias=layer.elements("exp_probs_b.bias") + layer.elements("ffn_gate_inp.bias") > 0,
        shared_gate=layer.elements("ffn_gate_inp_shexp.weight") > 0,
        latent=width if all(latent) and width != hidden else None,
    )


def _shared(layer: Layer, gated: bool) -> int:
    """Width of all that every token takes beside its routed experts."""
    total = 0
    for end in ("_shexp", ""):
        down = layer.matrix(f"ffn_down{end}.weight")
        if down is None:
            continue
        ups = [layer.elements(f"ffn_{name}{end}.weight") for name in ("up", "gate")]
        if sum(ups) != down[0] * down[1] * (2 if gated else 1):
            raise layer.wrong(f"'ffn_down{end}' and its up projections are not of one width")
        total += down[1]
    return total
