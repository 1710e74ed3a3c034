"""What a user means by `int4`, `w8a8` or `fp8,kv=fp8`: formats of weights, activations, KV cache and head, separately."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.errors import InvalidInputError, UnsupportedError, unknown
from waferline.formats.format import FormatArray, get_format

# w<bits>a<bits>: integer formats for what is narrower than 16 bits, as GPTQ, AWQ and SmoothQuant use the notation.
_WXAX = re.compile(r"^w(\d+)a(\d+)$")
_INTEGER = {2: "int2", 3: "int3", 4: "int4", 8: "int8", 16: "fp16", 32: "fp32"}
_PARTS = {"w": "weights", "weights": "weights", "a": "activations", "activations": "activations", "kv": "kv", "head": "head"}
_MIN_KV_BITS = 16  # engines keep KV in 16 bits unless asked (vLLM `kv_cache_dtype=auto`, llama.cpp `-ctk f16`)


@dataclass(frozen=True, slots=True)
class Precision:
    """The four formats a forward pass needs, each over all scenarios."""

    weights: FormatArray
    activations: FormatArray
    kv: FormatArray
    head: FormatArray

    def label(self) -> str:
        """One line for people, such as `int4 weights, fp16 arithmetic, fp16 KV`."""
        w, a, kv = ("/".join(f.names) for f in (self.weights, self.activations, self.kv))
        return f"{w} weights, {a} activations, {kv} KV"


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for piece in text.split(","):
        key, eq, value = piece.partition("=")
        if not eq:
            parts["all"] = piece.strip()
        elif key.strip().lower() not in _PARTS:
            raise unknown("precision part", key.strip(), set(_PARTS))
        else:
            parts[_PARTS[key.strip().lower()]] = get_format(value).name
    return parts


def parse(text: str, computes: Callable[[str], bool]) -> tuple[str, str, str, str]:
    """(weights, activations, kv, head) format names of one precision string.

    `computes(arithmetic)` says whether the machine multiplies in that arithmetic. Grammar: a format name (`int4`,
    `q4_k_m`), `w4a16`, or parts `w=fp8,a=fp16,kv=fp8,head=bf16` in any mix. A name alone takes the activations its
    catalogue entry lists: the first one that the machine computes.
    Raises: UnknownNameError, InvalidInputError, UnsupportedError.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidInputError(f"a precision is text such as 'fp16', 'int4' or 'w8a8', not {text!r}")
    parts = _parts(text)
    whole = parts.get("all", "")
    match = _WXAX.match(whole.strip().lower())
    if match:
        bits = [int(match.group(1)), int(match.group(2))]
        if any(b not in _INTEGER for b in bits):
            raise InvalidInputError(f"'{whole}' is not a width waferline knows", hint=f"widths: {', '.join(map(str, _INTEGER))}")
        weights, activations = _INTEGER[bits[0]], _INTEGER[bits[1]]
    else:
        weights = get_format(whole).name if whole else parts.get("weights", parts.get("activations", "fp16"))
        choices = get_format(weights).activations
        activations = next((a for a in choices if computes(get_format(a).arithmetic)), choices[0])
    weights = parts.get("weights", weights)
    activations = parts.get("activations", activations)
    kv = parts.get("kv", activations if get_format(activations).bits >= _MIN_KV_BITS else _sixteen(computes))
    head = parts.get("head", get_format(weights).head or weights)
    return weights, activations, kv, head


def _sixteen(computes: Callable[[str], bool]) -> str:
    return "bf16" if computes("bf16") else "fp16"


def resolve(
    precision: str | Sequence[str] | npt.NDArray[np.str_],
    arithmetic: Callable[[str], str],
    *,
    kv: str | Sequence[str] | npt.NDArray[np.str_] | None = None,
) -> Precision:
    """The formats of every scenario on a machine, refused where the machine lacks the arithmetic.

    `arithmetic` is `Device.arithmetic`: it returns the format computed in, or raises UnsupportedError.
    """

    def computes(name: str) -> bool:
        try:
            arithmetic(name)
        except UnsupportedError:
            return False
        return True

    labels = np.asarray(precision, dtype=str)
    if labels.size == 0:
        raise InvalidInputError("no precision given")
    names, index = np.unique(labels, return_inverse=True)
    index = index.reshape(labels.shape)
    rows = [parse(str(n), computes) for n in names]
    for row in rows:
        arithmetic(get_format(row[1]).arithmetic)
    weights, activations, kv_part, head = (FormatArray(tuple(col), index) for col in zip(*rows, strict=True))
    return Precision(weights, activations, FormatArray.of(kv) if kv is not None else kv_part, head)
