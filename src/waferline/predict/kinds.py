"""Every kind of operator that becomes seconds: its efficiency model, and the name its constants are kept under.

A new kind is one file in `predict/efficiency/` with an `expected_s`, and one row here (docs/contributing.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import UnsupportedError
from waferline.predict.efficiency import attention, gemm, look_up, mla, moe, streaming
from waferline.predict.efficiency.kernel import ExpectedSeconds


class Kind(NamedTuple):
    """How operators of one kind are timed.

    constants: the operator of `catalog/efficiency` whose constants apply. reads_kv: an 8-bit cache has kernels of its own.
    matrix: narrow weights have kernels of their own.
    quantises: activations narrower than 16 bits are quantised at its door; convolutional engines keep them narrow instead.
    """

    expected_s: ExpectedSeconds
    constants: str
    reads_kv: bool = False
    matrix: bool = False
    quantises: bool = False


KINDS: Mapping[str, Kind] = {
    "gemm": Kind(gemm.expected_s, "gemm", matrix=True, quantises=True),
    "conv": Kind(gemm.expected_s, "gemm", matrix=True),
    "prefill_attention": Kind(attention.prefill_expected_s, "prefill_attention", reads_kv=True),
    "decode_attention": Kind(attention.decode_expected_s, "decode_attention", reads_kv=True),
    "mla_prefill": Kind(mla.prefill_expected_s, "mla_prefill", reads_kv=True),
    "mla_decode": Kind(mla.decode_expected_s, "mla_decode", reads_kv=True),
    "look_up": Kind(look_up.expected_s, "streaming"),
    "moe": Kind(moe.expected_s, "moe", matrix=True, quantises=True),
    **{name: Kind(streaming.expected_s, "streaming") for name in ("norm", "softmax", "elementwise", "gather", "scan")},
}


def backward_share(kind: str) -> float:
    """Backward work over forward work of operators of a kind (`catalog/training.yaml`).

    Raises: UnsupportedError for a kind whose backward pass is not described.
    """
    shares: Mapping[str, float] = read_packaged("training.yaml")["backward"]
    if kind not in shares:
        raise UnsupportedError(
            f"nothing says what the backward pass of '{kind}' operators costs",
            hint="add a row to catalog/training.yaml: backward",
        )
    return shares[kind]
