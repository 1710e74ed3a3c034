"""Feed-forward parts of decoders with a mixture of experts: which layers are sparse, how many experts, how wide.

Every family spells these few facts in its own keys; here they are one list of spellings, read in one way.
"""

from __future__ import annotations

from dataclasses import dataclass

from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import check_experts
from waferline.workloads.families.dense import Told, told
from waferline.workloads.spec import FeedForward, Ffn, MixtureOfExperts

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
PER_TOKEN = (
    *("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "moe_top_k", "top_k_experts"),
    "num_experts_per_topk",
)
_SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
_SHARED_WIDTH = (
    *("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_experts_intermediate_size"),
    *("share_expert_dim", "shared_intermediate_size"),
)
_FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
_DENSE = ("dense_intermediate_size", "intermediate_size_mlp", "prefix_dense_intermediate_size", "intermediate_size")
_DENSE_KINDS = ("dense", "mlp")


def router_bias(c: ConfigReader) -> bool:
    """Whether experts are balanced by a bias (DeepSeek-V3, section 2.1.2) that checkpoints hold."""
    return c.text("", "topk_method") == "noaux_tc" or c.text("", "scoring_func") == "sigmoid"


@dataclass(frozen=True, slots=True)
class Mix:
    """How a family's experts differ from Mixtral's. `router_bias`: one number an expert, for balance."""

    gated: bool = True
    bias: bool = False
    router_bias: Told = False
    shared_gate: bool = False
    first: int = 0  # dense layers before the first mixture where the file does not say


def experts(c: ConfigReader, intermediate: int, **fields: object) -> MixtureOfExperts:
    """Routed experts of the usual keys."""
    number, active = c.size(*EXPERTS), c.size(*PER_TOKEN)
    check_experts(c, number, active)
    return MixtureOfExperts(number, active, intermediate, **fields)  # type: ignore[arg-type]


def has_experts(c: ConfigReader) -> bool:
    """Whether the configuration names experts at all; some families write a dense model with none or one."""
    return c.get(*EXPERTS) is not None


def ffns(c: ConfigReader, layers: int, m: Mix) -> list[Ffn]:
    """The feed-forward part of each layer."""
    if not has_experts(c) or c.get(*EXPERTS) == 0:
        return [FeedForward(c.size(*_DENSE), gated=m.gated, bias=m.bias)] * layers
    sparse = _sparse(c, layers, m)
    parts: list[Ffn] = list(_mixtures(c, layers, m)) if any(sparse) else []
    if all(sparse):
        return parts
    dense = FeedForward(c.size(*_DENSE), gated=m.gated, bias=m.bias)
    return [parts[i] if is_sparse else dense for i, is_sparse in enumerate(sparse)]


def _mixtures(c: ConfigReader, layers: int, m: Mix) -> list[MixtureOfExperts]:
    """A mixture for each layer; files that list a number for each layer are read number by number."""
    numbers, active = per_layer(c, layers, *EXPERTS), per_layer(c, layers, *PER_TOKEN)
    said = c.get("moe_intermediate_size", "expert_ffn_hidden_size") is not None
    widths = per_layer(
        c, layers, *(("moe_intermediate_size", "expert_ffn_hidden_size") if said else ("intermediate_size",))
    )
    shared = per_layer(c, layers, *_SHARED, default=0)
    shared_width = c.size_or(0, *_SHARED_WIDTH, least=0)
    bias = told(c, m.router_bias)
    found = []
    for number, per_token, width, copies in zip(numbers, active, widths, shared, strict=True):
        check_experts(c, number, per_token)
        together = shared_width * max(copies, 1) if shared_width else copies * width
        found.append(
            MixtureOfExperts(
                number,
                per_token,
                width,
                shared_intermediate=together,
                gated=m.gated,
                bias=m.bias,
                router_bias=bias,
                shared_gate=m.shared_gate and together > 0,
                latent=c.optional("routed_expert_hidden_size"),
            )
        )
    return found


def per_layer(c: ConfigReader, layers: int, *keys: str, default: int | None = None) -> list[int]:
    """A whole number for each layer, from one number or a list of them."""
    if not isinstance(c.get(*keys), list | tuple):
        one = c.size(*keys) if default is None else c.size_or(default, *keys, least=0)
        return [one] * layers
    values = c.items(*keys, length=layers) or ()
    each = ConfigReader({f"{keys[0]}[{i}]": value for i, value in enumerate(values)}, c.where)
    return [each.size_or(0, f"{keys[0]}[{i}]", least=0 if default is not None else 1) for i in range(layers)]


def _sparse(c: ConfigReader, layers: int, m: Mix) -> list[bool]:
    """Which layers have experts: a list of kinds or flags, else a first one and a step."""
    kinds = c.kinds({*_DENSE_KINDS, "sparse", "moe"}, "mlp_layer_types", length=layers)
    if kinds is not None:
        return [kind not in _DENSE_KINDS for kind in kinds]
    chosen = c.indices("moe_layers", layers)
    if chosen is not None:
        return [i in chosen for i in range(layers)]
    if isinstance(c.get("moe_layer_freq"), list | tuple):
        return [bool(flag) for flag in c.items("moe_layer_freq", length=layers) or ()]
    first = c.size_or(m.first, *_FIRST, least=0)
    last = c.size_or(-1, "moe_layer_end_index", least=-1)
    step, every = c.size_or(1, "moe_layer_freq"), c.size_or(1, "moe_layer_interval", "interleave_moe_layer_step")
    only, sparse_step = c.indices("mlp_only_layers", layers) or set(), c.size_or(1, "decoder_sparse_step")
    last = layers - 1 if last < 0 else last
    return [
        first <= i <= last and i % step == 0 and (i + 1) % every == 0 and i not in only and (i + 1) % sparse_step == 0
        for i in range(layers)
    ]
