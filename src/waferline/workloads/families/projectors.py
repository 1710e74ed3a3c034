"""Projectors: what stands between a vision encoder and a decoder, one small function a kind.

Each takes the sizes at hand (`Join`) and gives the stages that follow the encoder. Sources: the modelling code of the
`model_type` in huggingface/transformers (v5.24).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.streams import Matrix, Stage


@dataclass(frozen=True, slots=True)
class Join:
    """Sizes between encoder and decoder: `width` of a patch, `merged` of the patches of one token, `hidden` of the decoder.

    top, section: the configuration of the whole and of the tower.
    """

    top: ConfigReader
    section: ConfigReader
    width: int
    merged: int
    hidden: int


Projector = Callable[[Join], tuple[Stage, ...]]


def _stage(*matrices: tuple[int, int, bool], params: int = 0, count: int = 1, name: str = "project") -> Stage:
    """Matrices over tokens, each (inputs, outputs, whether with a bias), an activation function between them."""
    made = tuple(
        Matrix(str(i), k, n, rows="token", bias=bias, split="k" if i % 2 else "n")
        for i, (k, n, bias) in enumerate(matrices, 1)
    )
    return Stage(name, count, made, rows="token", params=params, inner=matrices[0][1] if len(matrices) > 1 else 0)


def linear(j: Join) -> tuple[Stage, ...]:
    """One matrix without a bias (Idefics 3, SmolVLM)."""
    return (_stage((j.merged, j.hidden, False)),)


def biased(j: Join) -> tuple[Stage, ...]:
    """One matrix with a bias (PaliGemma, Qwen2-Audio)."""
    return (_stage((j.width, j.hidden, True)),)


def mlp(j: Join) -> tuple[Stage, ...]:
    """Two matrices (LLaVA, Pixtral)."""
    bias = j.top.flag(True, "multimodal_projector_bias")
    return (_stage((j.merged, j.hidden, bias), (j.hidden, j.hidden, bias)),)


def newline(j: Join) -> tuple[Stage, ...]:
    """LLaVA's two matrices and the vector that ends a row of tiles (NeXT, OneVision)."""
    return (*mlp(j), Stage("newline", params=j.hidden))


def many_layers(j: Join) -> tuple[Stage, ...]:
    """A norm over several of the encoder's layers, then LLaVA's two matrices (VipLLaVA)."""
    width = j.width * len(j.top.items("vision_feature_layers") or (0,) * 5)
    return (_stage((width, j.hidden, True), (j.hidden, j.hidden, True), params=2 * width),)


def normed_mlp(j: Join) -> tuple[Stage, ...]:
    """A norm over merged patches, two matrices (InternVL)."""
    return (_stage((j.merged, j.hidden, True), (j.hidden, j.hidden, True), params=2 * j.merged),)


def merger(j: Join) -> tuple[Stage, ...]:
    """Qwen2-VL: a norm over patches, a square matrix over merged ones, a matrix into the decoder."""
    return (_stage((j.merged, j.merged, True), (j.merged, j.hidden, True), params=2 * j.width),)


def rms_merger(j: Join) -> tuple[Stage, ...]:
    """Qwen2.5-VL: as Qwen2-VL, with a norm without bias."""
    return (_stage((j.merged, j.merged, True), (j.merged, j.hidden, True), params=j.width),)


def deepstack(j: Join) -> tuple[Stage, ...]:
    """Qwen3-VL: as Qwen2-VL, and one more merger for each layer whose states enter the decoder's first layers."""
    more = len(j.section.items("deepstack_visual_indexes") or (8, 16, 24))
    extra = _stage(
        (j.merged, j.merged, True), (j.merged, j.hidden, True), params=2 * j.merged, count=more, name="deepstack"
    )
    return (*merger(j), extra) if more else merger(j)


def patch_merger(j: Join) -> tuple[Stage, ...]:
    """Mistral 3: a norm, merged patches back to the width of one, two matrices without biases."""
    bias = j.top.flag(False, "multimodal_projector_bias")
    return (
        _stage((j.merged, j.width, False), params=j.width, name="merge"),
        _stage((j.width, j.hidden, bias), (j.hidden, j.hidden, bias)),
    )


def gemma(j: Join) -> tuple[Stage, ...]:
    """Gemma 3: pooled patches, a norm, one matrix without a bias."""
    return (_stage((j.width, j.hidden, False), params=j.width),)


def plain(j: Join) -> tuple[Stage, ...]:
    """Gemma 4: pooled patches, one matrix."""
    return (_stage((j.width, j.hidden, False)),)


def shuffle(j: Join) -> tuple[Stage, ...]:
    """Llama 4: shuffled pixels through the adapter's two matrices, then one into the decoder."""
    inner, out = j.section.size("intermediate_size"), j.section.size("projector_output_dim")
    adapter = _stage((inner, j.section.size("projector_input_dim"), False), (out, out, False), name="adapter")
    return adapter, _stage((j.section.size("vision_output_dim"), j.hidden, False))


def swiglu(j: Join) -> tuple[Stage, ...]:
    """Command A Vision: merged patches through a gated pair."""
    inner = j.top.size_or(36864, "alignment_intermediate_size")
    return (_stage((j.merged, inner, True), (inner // 2, j.hidden, True)),)


def normed_swiglu(j: Join) -> tuple[Stage, ...]:
    """Aya Vision: a norm before a gated pair."""
    inner = j.top.size_or(j.hidden, "adapter_layer_intermediate_size", "alignment_intermediate_size")
    return (_stage((j.merged, inner, True), (inner // 2, j.hidden, True), params=2 * j.merged),)


def lfm(j: Join) -> tuple[Stage, ...]:
    """LFM2-VL: a norm where asked, two matrices around a width of their own."""
    inner, bias = j.top.size_or(2560, "projector_hidden_size"), j.top.flag(True, "projector_bias")
    norm = 2 * j.merged * j.top.flag(True, "projector_use_layernorm")
    return (_stage((j.merged, inner, bias), (inner, j.hidden, bias), params=norm),)


def downsample(j: Join) -> tuple[Stage, ...]:
    """GLM-4V: a convolution over 2 × 2 patches, a matrix and a norm, then a gated part."""
    inner = j.section.size("intermediate_size")
    inner = inner if j.section.text("", "model_type") != "glm_ocr_vision" else j.hidden * 3
    gated = Stage(
        "gated",
        matrices=(
            Matrix("up", j.hidden, 2 * inner, rows="token"),
            Matrix("down", inner, j.hidden, rows="token", split="k"),
        ),
        rows="token",
        inner=inner,
    )
    return (
        _stage((j.merged, j.hidden, True), name="downsample"),
        _stage((j.hidden, j.hidden, False), params=2 * j.hidden),
        gated,
    )


def hd_mlp(j: Join) -> tuple[Stage, ...]:
    """Phi-4 multimodal: two matrices, and the vectors between tiles."""
    return (_stage((j.width, j.hidden, True), (j.hidden, j.hidden, True), params=2 * j.width),)


def resampler(j: Join) -> tuple[Stage, ...]:
    """ERNIE 4.5 VL: pairs of matrices over merged patches, over two frames of them, and a matrix into the decoder."""
    merged = j.merged
    return (
        _stage((merged, merged, True), (merged, merged, True), params=2 * merged, name="space"),
        _stage((2 * merged, merged, True), (merged, merged, True), params=2 * merged, name="time"),
        _stage((merged, j.hidden, True), params=j.hidden),
    )


def stacked(j: Join) -> tuple[Stage, ...]:
    """Voxtral: four frames a token, two matrices without biases."""
    return (_stage((j.section.size("intermediate_size"), j.hidden, False), (j.hidden, j.hidden, False)),)


def two(j: Join) -> tuple[Stage, ...]:
    """Audio Flamingo 3: two matrices with biases."""
    return (_stage((j.width, j.hidden, True), (j.hidden, j.hidden, True)),)
