"""MobileNetV5, the vision encoder of Gemma 3n, by its totals: no key of a configuration describes its convolutions."""

from __future__ import annotations

from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.spec import Transformer
from waferline.workloads.streams import Grid, Matrix, Stage, StreamNet, Tower

# Parameters, and FLOPs of an image of 768 x 768, of `mobilenetv5_300m_enc` as timm 1.0 builds it (torch's FlopCounterMode).
_TOTALS = {"mobilenetv5_300m_enc": (294_126_912, 871_482_949_632)}
_SIDE, _PATCH = 768, 48  # 16 x 16 tokens
ASSUMES = "scaled to 768x768, 256 tokens; the encoder by its totals"


def mobilenet_tower(c: ConfigReader, spec: Transformer) -> Tower | None:
    """The tower that a vision section names, or None for an encoder that is not known."""
    totals = _TOTALS.get(c.text("", "architecture"))
    if totals is None:
        return None
    params, flops = totals
    width = c.size("hidden_size")
    tables = c.size_or(128, "vocab_size") * width + 2 * width
    stages = (
        Stage("encoder", 1, width=width, conv_flops=flops, conv_params=params),
        Stage("project", 1, (Matrix("1", width, spec.hidden_size, rows="token"),), params=tables),
    )
    grid = Grid(_SIDE, _SIDE, _PATCH, fixed=True)
    return Tower(
        kind="image", net=StreamNet(name="the vision tower of gemma3n", stages=stages, grid=grid), rule=ASSUMES
    )
