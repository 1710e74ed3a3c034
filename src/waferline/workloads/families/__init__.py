"""Model families: how each `model_type` of a published configuration becomes layers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from waferline.workloads.families import (
    classic,
    dense,
    diffusion,
    encoders,
    gemma,
    hybrid,
    images,
    latent,
    linear,
    moe,
    per_layer,
    seq2seq,
    vision,
)
from waferline.workloads.families.common import Family, merged
from waferline.workloads.families.mllama import mllama_text

FAMILIES: dict[str, Family] = merged(
    dense.FAMILIES,
    per_layer.FAMILIES,
    gemma.FAMILIES,
    moe.FAMILIES,
    latent.FAMILIES,
    classic.FAMILIES,
    hybrid.FAMILIES,
    linear.FAMILIES,
    encoders.FAMILIES,
    seq2seq.FAMILIES,
    vision.FAMILIES,
    images.FAMILIES,
    diffusion.FAMILIES,
    # Decoders that only stand inside multimodal files.
    {
        "mllama_text_model": mllama_text,
        "glm4v_text": partial(dense.dense, t=replace(dense.TRAITS["glm4"], qkv_bias=True)),
    },
)
