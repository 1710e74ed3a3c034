"""Images and clips beside a prompt: their size, and what an answer says of the towers that read them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from waferline.errors import InvalidInputError
from waferline.workloads.scenario import whole
from waferline.workloads.spec import ModelSpec, Transformer
from waferline.workloads.streams import StreamNet, Tower

_SIZE = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,5})")
_NAMES = {"image": ("vision", "image", "--images"), "clip": ("audio", "clip", "--clips")}
_SHOWN = 1e9


def sized(spec: ModelSpec, image_size: str | None, frames: Any) -> ModelSpec:
    """`spec` for images of `image_size` (WIDTHxHEIGHT in pixels) and videos of `frames`; as it is where neither is given.

    Raises: InvalidInputError for what is no size, or where the model scales every image to its own.
    """
    if image_size is None and frames is None:
        return spec
    frames = None if frames is None else int(whole("frames", frames))
    grid = spec.grid if isinstance(spec, StreamNet) else None
    width, height = _pixels(image_size) if image_size is not None else (grid.width, grid.height) if grid else (0, 0)
    if isinstance(spec, StreamNet):
        return spec.at(height, width, frames)
    if isinstance(spec, Transformer):
        return replace(spec, towers=tuple(t.at(height, width) if t.kind == "image" else t for t in spec.towers))
    return spec


def _pixels(text: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(str(text))
    if match is None:
        raise InvalidInputError(f"an image size is WIDTHxHEIGHT in pixels, not {text!r}", hint="such as 1024x1024")
    return int(match[1]), int(match[2])


def input_notes(
    spec: ModelSpec, *, serving: bool, inputs: Mapping[str, Any], prompt: Any = None, apart: bool = False
) -> tuple[str, ...]:
    """What to say of what `spec` reads: its towers, what an input becomes, where the prompt goes, and what is not counted.

    apart: the engine loads towers from files of their own, where there is something for them.
    """
    if not isinstance(spec, Transformer | StreamNet):
        return ()
    asked = {kind for kind, number in inputs.items() if number is not None}
    loaded = serving and (bool(asked) or not apart)
    return (*(_prompt(spec, prompt) if serving else ()), *_notes(spec, loaded, asked, apart))


def _prompt(spec: Transformer | StreamNet, prompt: Any) -> Iterator[str]:
    """Of an encoder-decoder: what its encoder reads."""
    if not isinstance(spec, Transformer) or not spec.encoder:
        return
    if not spec.encoder_tokens:
        yield "the encoder reads the prompt, once; the decoder starts from one token and keeps the encoder's keys and values"
        return
    usual = (
        f"; prompt {spec.usual_prompt}: what the decoder starts from" if prompt is None and spec.usual_prompt else ""
    )
    yield f"the encoder reads {spec.encoder_tokens:,} frames for each prompt{usual}"


def _notes(spec: Transformer | StreamNet, loaded: bool, asked: set[str], apart: bool) -> Iterator[str]:
    for tower in getattr(spec, "towers", ()):
        yield _said(tower, asked=tower.kind in asked) if loaded else _left_out(tower, apart)
    if isinstance(spec, StreamNet):
        yield from _sizes(spec)
    missing = spec.metadata.get("not_counted")
    if missing:
        yield f"not counted, in memory nor in time: {missing}"


def _sizes(net: StreamNet) -> Iterator[str]:
    """Of an image encoder or a diffusion model: the rows that its size gives, and what a step is."""
    grid, rows = net.grid, net.grid.rows()
    video = f", {grid.frames} frames" if grid.frames > 1 else ""
    text = f" and {rows['text']:,} of text" if rows["text"] else ""
    passes = " in two passes, with and without the prompt" if net.passes > 1 else ""
    option = "; --steps and --image-size change it" if net.steps else ""
    steps = f"{net.steps} steps, each{passes} over " if net.steps else ""
    yield f"{steps}{rows['patch']:,} rows of {grid.width}x{grid.height}{video}{text}{option}"


def _said(tower: Tower, *, asked: bool) -> str:
    what, one, option = _NAMES[tower.kind]
    size = f"{tower.params / _SHOWN:.2f} G parameters at 16 bits"
    grid = tower.net.grid
    pixels = f" of {grid.width}x{grid.height}" if tower.kind == "image" and not tower.cross else ""
    pieces = f" in {tower.pieces} pieces" if tower.pieces > 1 else ""
    into = "states that cross-attention sees" if tower.cross else "tokens of the prompt"
    tokens = f"{tower.tokens:,} {into}{pieces or pixels} ({tower.rule})"
    if asked:
        return f"each {one} is {tokens}; the {what} tower has {size}"
    return f"the {what} tower, {size}, is in the weights; {option} N adds its time, and for each {one} {tokens}"


def _left_out(tower: Tower, apart: bool) -> str:
    what, _, option = _NAMES[tower.kind]
    where = f"; it is a file of its own, which {option} N loads" if apart else ""
    return f"the {what} tower ({tower.params / _SHOWN:.2f} G parameters) is not part of this answer{where}"
