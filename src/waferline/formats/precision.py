"""What a user means by `int4`, `w8a8` or `fp8,kv=fp8`: formats of weights, activations, KV cache and head, separately."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import AnyArray
from waferline.errors import InvalidInputError, UnsupportedError, unknown
from waferline.formats.format import get_format
from waferline.text import printable, told

# w<bits>a<bits>: integer formats for what is narrower than 16 bits, as GPTQ, AWQ and SmoothQuant use the notation.
_WXAX = re.compile(r"^w(\d+)a(\d+)$")
_INTEGER = {2: "int2", 3: "int3", 4: "int4", 8: "int8", 16: "fp16", 32: "fp32"}
_PARTS = {
    "w": "weights",
    "weights": "weights",
    "a": "activations",
    "activations": "activations",
    "kv": "kv",
    "head": "head",
}
_MIN_KV_BITS = 16  # engines keep KV in 16 bits unless asked (vLLM `kv_cache_dtype=auto`, llama.cpp `-ctk f16`)


@dataclass(frozen=True, slots=True)
class Precision:
    """The formats of one forward pass, by name."""

    weights: str
    activations: str
    kv: str
    head: str
    # Other weight formats of the same checkpoint with the activations that each is multiplied with; absent: 16 bits.
    mixed: tuple[tuple[str, str], ...] = ()

    def label(self, *, cache: bool = True) -> str:
        """One line for people, such as `int4 weights, fp16 activations, fp16 KV`; a single pass keeps no `cache`."""
        return f"{self.weights} weights, {self.activations} activations" + (f", {self.kv} KV" if cache else "")


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for piece in text.split(","):
        key, eq, value = (part.strip() for part in piece.partition("="))
        if not (key and (value or not eq)):
            raise InvalidInputError(f"the precision '{printable(text)}' has an empty part")
        if eq and key.lower() not in _PARTS:
            raise unknown("precision part", key, set(_PARTS))
        part = _PARTS[key.lower()] if eq else "all"
        if part in parts:
            raise InvalidInputError(
                f"the precision '{printable(text)}' says {'its format' if part == 'all' else part} twice"
            )
        parts[part] = get_format(value).name if eq else key
    return parts


def computed_notes(precision: Precision, machine: str, arithmetic: Callable[[str], str]) -> tuple[str, ...]:
    """What `machine` makes of formats that it does not compute in itself."""
    wanted = get_format(precision.activations).arithmetic
    used = arithmetic(wanted)
    notes: tuple[str, ...] = () if used == wanted else (f"{machine} computes {wanted} in {used}",)
    if get_format(precision.weights).bits < get_format(precision.activations).bits:
        notes += (f"weights are dequantised to {precision.activations}: fewer bytes, the same arithmetic roof",)
    return notes


def labels_of(precision: Any) -> AnyArray:
    """Precisions as an array of texts: one, or many that broadcast. Raises: InvalidInputError for what is no text."""
    try:
        labels = np.asarray(precision)
        if labels.dtype.kind == "O" and labels.size and all(isinstance(label, str) for label in labels.flat):
            labels = labels.astype(str)
    except Exception:  # whatever an object raises that is asked for its items
        labels = np.asarray(0)
    if labels.dtype.kind != "U" or not labels.size:
        raise InvalidInputError(f"a precision is text such as 'fp16', 'int4' or 'w8a8', not {told(precision)}")
    return labels


def resolve(precision: str, arithmetic: Callable[[str], str], *, kv: str | None = None) -> Precision:
    """The formats that `precision` means on a machine, refused where the machine lacks the arithmetic.

    Grammar: a format name (`int4`, `q4_k_m`), `w4a16`, or parts `w=fp8,a=fp16,kv=fp8,head=bf16`, in any mix. A name
    alone takes the activations its catalogue entry lists: the first one that the machine computes. `arithmetic` is
    `Device.arithmetic`: it returns the format computed in, or raises UnsupportedError.
    Raises: UnknownNameError, InvalidInputError, UnsupportedError.
    """
    if not isinstance(precision, str) or not precision.strip():
        raise InvalidInputError(f"a precision is text such as 'fp16', 'int4' or 'w8a8', not {told(precision)}")

    def computes(name: str) -> bool:
        try:
            arithmetic(get_format(name).arithmetic)
        except UnsupportedError:
            return False
        return True

    parts = _parts(precision)
    weights, activations = _pair(parts, computes)
    arithmetic(get_format(activations).arithmetic)
    if kv is None:
        kv = activations if get_format(activations).bits >= _MIN_KV_BITS else ("bf16" if computes("bf16") else "fp16")
    return Precision(
        weights=weights,
        activations=activations,
        kv=parts.get("kv", get_format(kv).name),
        head=parts.get("head", get_format(weights).head or weights),
    )


def _pair(parts: dict[str, str], computes: Callable[[str], bool]) -> tuple[str, str]:
    """Weights and activations formats of the parts of a precision string."""
    whole = parts.get("all", "")
    match = _WXAX.match(whole.strip().lower())
    if match:
        widths = [int(match.group(1)), int(match.group(2))]
        if any(b not in _INTEGER for b in widths):
            raise InvalidInputError(
                f"'{whole}' is not a width waferline knows", hint=f"widths: {', '.join(map(str, _INTEGER))}"
            )
        weights, activations = (_INTEGER[b] for b in widths)
    else:
        weights = get_format(whole or parts.get("weights", parts.get("activations", "fp16"))).name
        choices = get_format(weights).activations
        activations = next((a for a in choices if computes(a)), choices[0])
    return parts.get("weights", weights), parts.get("activations", activations)
