"""Model families: how each `model_type` of a published configuration becomes layers."""

from __future__ import annotations

from waferline.workloads.families import (
    classic,
    dense,
    diffusion,
    encoders,
    hybrid,
    images,
    latent,
    moe,
    seq2seq,
    vision,
)
from waferline.workloads.families.common import Family, merged
from waferline.workloads.families.mllama import mllama_text

FAMILIES: dict[str, Family] = merged(
    dense.FAMILIES,
    moe.FAMILIES,
    latent.FAMILIES,
    classic.FAMILIES,
    hybrid.FAMILIES,
    encoders.FAMILIES,
    seq2seq.FAMILIES,
    vision.FAMILIES,
    images.FAMILIES,
    diffusion.FAMILIES,
    {"mllama_text_model": mllama_text},
)
