"""Keys of a configuration that speak of a structure and that its family does not read: said, or refused where they are experts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from reprlib import repr as shown
from typing import Any

from waferline.errors import UnsupportedError
from waferline.workloads.config_reader import ConfigReader

_STRUCTURE = re.compile(
    r"expert|moe|latent|compress|_rank$|^index|mamba|ssm|linear_(attn|num|key|value|conv)|sparse_(?!pred)|engram|memory|per_layer"
    r"|(attention|attn|mixer|block)_types?$|_heads$|_layers$|_kernel_size$|_state_size$"
)
_EXPERTS = re.compile(r"^(num|n|moe_num)_(local_|routed_)?experts$")
# Of the same fact as a key that is read, or of training, numerics and further tokens alone.
_SAID_ELSEWHERE = re.compile(
    r"_kernels$|^use_mamba|nextn|^mtp_|num_key_value_heads$|num_kv_heads$|num_hidden_layers$|^num_layers$|experts_per_tok|_drop|aux"
    r"|router|_loss|_eps$|_scale|scaling|^mamba_(d_head|expand|chunk)|max_window_layers|no_rope_layers|initializer|norm_topk|jitter"
    r"|encoder_attention_type|^time_step|^output_|position_embedding_type|^attn_type$"
)
_MOST_NAMED = 5


def unread_notes(c: ConfigReader, family: str, ignore: tuple[str, ...] = ()) -> Iterator[str]:
    """What to say of structure that nobody read. Raises: UnsupportedError for experts that a dense family would drop."""
    found = [
        k for k in c.unread(ignore) if _STRUCTURE.search(k) and not _SAID_ELSEWHERE.search(k) and _is_some(c.get(k))
    ]
    for key in found:
        if _EXPERTS.search(key) and c.get(key) != 1:
            message = (
                f"'{key}' is {shown(c.get(key))}, and a {family} has no experts as the rest of the file describes it"
            )
            raise UnsupportedError(message, where=c.where)
    if found:
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        yield f"in the file and not read: {', '.join(found[:_MOST_NAMED])}{more}"


def _is_some(value: Any) -> bool:
    """Whether a value says that there is something: no flag that is off, no zero, nothing empty."""
    return bool(value) and value is not False and value != -1
