"""Image encoders by themselves: the vision encoders of `vision_encoders` without a decoder, CLIP and SigLIP, Swin.

Sources: the modelling code of the `model_type` in huggingface/transformers (v5.24).
"""

from __future__ import annotations

from functools import partial

from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import Family
from waferline.workloads.families.vision_encoders import TRAITS, vision_body
from waferline.workloads.streams import StreamNet

_ALONE = (
    "clip_vision_model",
    "siglip_vision_model",
    "siglip2_vision_model",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "deit",
    "ijepa",
    "internvl_vision",
    "pixtral",
)


def _encoder(c: ConfigReader, kind: str) -> StreamNet:
    """A vision encoder whose outputs are its embeddings."""
    body = vision_body(c, TRAITS[kind])
    return StreamNet(stages=body.stages, grid=body.grid)


FAMILIES: dict[str, Family] = {kind: partial(_encoder, kind=kind) for kind in _ALONE}
