"""Feed-forward parts lowered to operators: dense, and mixture of experts with its routing traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from waferline.arrays import Floats
from waferline.elementwise import anywhere, both, maximum, where
from waferline.workloads.build import Builder
from waferline.workloads.mixers import Pass, shard
from waferline.workloads.operator import Operator
from waferline.workloads.spec import FeedForward, Ffn, MixtureOfExperts

_ROUTER = "bf16"  # routers are kept wide: small, and their errors change which expert runs


def expected_distinct(experts: float, per_token: float, tokens: Floats) -> Floats:
    """Experts that at least one of `tokens` tokens chooses when each takes `per_token` at random: N(1 − (1 − k/N)^T)."""
    return experts * (1.0 - (1.0 - per_token / experts) ** tokens)


def dense(b: Builder, f: FeedForward, hidden: int, count: Floats, p: Pass) -> Iterator[Operator]:
    """Up (and gate) projection, activation, down projection of one tensor-parallel rank."""
    yield from _mlp(b, "ffn", f.intermediate, f.gated, hidden, count, p.tokens, p.parallel.tp)


def _mlp(
    b: Builder,
    name: str,
    intermediate: int,
    gated: bool,
    hidden: int,
    count: Floats,
    tokens: Floats,
    tp: Floats,
) -> Iterator[Operator]:
    inner = shard(intermediate, tp)
    up = inner * (2 if gated else 1)
    yield b.gemm(f"{name}.gate_up" if gated else f"{name}.up", tokens, up, hidden, count=count)
    yield b.streaming(f"{name}.act", "elementwise", tokens * inner, passes=3 if gated else 2, count=count, flops_each=5)
    yield b.gemm(f"{name}.down", tokens, hidden, inner, count=count)


def experts(b: Builder, f: MixtureOfExperts, hidden: int, count: Floats, p: Pass) -> Iterator[Operator]:
    """Router, expected distinct routed experts (as one fused operator), shared experts.

    With `ep` > 1 the experts are split over `ep` ranks that exchange tokens by all-to-all, dispatch and combine.
    """
    ep, tp = p.parallel.ep, p.parallel.tp
    expert_tp = maximum(tp / ep, 1.0)  # experts are cut by tensor parallelism only where ep leaves ranks over
    width = f.latent or hidden  # routed experts may work in a narrower space (Nemotron 3)
    yield b.gemm("moe.router", p.tokens, float(f.experts), hidden, count=count, weights=_ROUTER)
    if f.latent:
        yield b.gemm("moe.latent_down", p.tokens, float(width), hidden, count=count)
    yield _routed(b, f, width, count, p, ep, expert_tp)
    if f.latent:
        yield b.gemm("moe.latent_up", p.tokens, hidden, float(width), count=count)
    exchanging = both(p.parallel.dp * tp > tp, ep > 1.0)  # attention's ranks hold other tokens than the experts' do
    if anywhere(exchanging):
        payload = p.tokens * f.experts_per_token * width * b.residual_bytes
        for step in ("dispatch", "combine"):
            yield b.collective("all_to_all", f"moe.{step}", payload, where(exchanging, ep, 1.0), count=count)
    if f.shared_intermediate:
        yield from _mlp(b, "moe.shared", f.shared_intermediate, f.gated, hidden, count, p.tokens, tp)


def _routed(
    b: Builder, f: MixtureOfExperts, hidden: int, count: Floats, p: Pass, ep: Floats, expert_tp: Floats
) -> Operator:
    """All routed experts of one rank as one fused operator, balanced routing."""
    # Attention-data-parallel ranks bring their own tokens to the shared experts.
    groups = maximum(ep * expert_tp / p.parallel.tp, 1.0)
    tokens = p.tokens * groups
    matrices = 3 if f.gated else 2
    per_expert = matrices * hidden * f.intermediate / expert_tp
    # Routing draws from all experts; a rank holds 1/ep of those drawn.
    drawn = (
        expected_distinct(f.experts / f.routed_groups, f.experts_per_token / f.routed_groups, tokens) * f.routed_groups
    )
    routed = tokens * f.experts_per_token / ep
    inner = f.intermediate / expert_tp
    return b.operator(
        "moe.experts",
        "moe",
        count=count,
        flops=2.0 * routed * per_expert,
        weight_bytes=drawn / ep * per_expert * b.weight_bytes,
        activation_bytes=routed * (2 * hidden + 2 * inner) * b.residual_bytes,
        shape={
            "tokens": tokens,
            "hidden": float(hidden),
            "inner": float(f.intermediate),
            "topk": float(f.experts_per_token),
            "experts": float(f.experts),
            "tp": expert_tp,
            "ep": ep,
            "matrices": float(matrices),
        },
    )


LOWER: dict[type[Ffn], Callable[..., Iterator[Operator]]] = {FeedForward: dense, MixtureOfExperts: experts}
