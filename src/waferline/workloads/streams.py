"""Networks over streams of rows: vision and audio towers, image encoders, diffusion transformers.

A row is a patch of an image, a token of text, a frame of audio, or the one vector that conditions a sample. A layer is a few
matrices, each over the rows of one stream, and attention between streams. How many rows a stream has follows from the size of
the image (`Grid`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from waferline.errors import InvalidInputError
from waferline.workloads.described import Described
from waferline.workloads.source import Source

Kind = Literal["image", "clip", "text"]


@dataclass(frozen=True, slots=True)
class Matrix:
    """`count` matrices of `k` inputs and `n` outputs that every row of a stream meets.

    split: what tensor parallelism cuts, outputs (n) or inputs (k, and the ranks add up); "" for neither.
    """

    name: str
    k: int
    n: int
    rows: str = "patch"
    bias: bool = False
    count: int = 1
    split: Literal["n", "k", ""] = "n"

    @property
    def params(self) -> int:
        return self.count * self.n * (self.k + self.bias)


@dataclass(frozen=True, slots=True)
class Scores:
    """Attention without its projections: rows of `queries` see those of `keys`, all or the `window` nearest."""

    heads: int
    head_dim: int
    queries: str = "patch"
    keys: str = "patch"
    window: int | None = None
    kv_heads: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """`count` equal layers: matrices, attention, norms and activation functions, and what else is stored.

    width: elements of a row that norms pass over; inner: elements of a row in activation functions. params: norms, scales,
    tables. conv_flops, conv_params: convolutions over something else than rows, in one sample.
    """

    name: str
    count: int = 1
    matrices: tuple[Matrix, ...] = ()
    scores: tuple[Scores, ...] = ()
    rows: str = "patch"
    width: int = 0
    norms: int = 0
    inner: int = 0
    params: int = 0
    conv_flops: int = 0
    conv_params: int = 0

    @property
    def stored(self) -> int:
        """Parameters of all its layers."""
        return self.count * (sum(m.params for m in self.matrices) + self.params + self.conv_params)


@dataclass(frozen=True, slots=True)
class Grid:
    """How an image becomes rows: `patch` pixels a side make a patch, `merge` patches a side a token.

    height, width: pixels at the standard size. extra: class and register rows beside the patches. row_ends: tokens that end
    each row of tokens. text: rows of a text stream beside. frames: of a video, `frame_stride` of which share one latent.
    fixed: another size is scaled to this one first. piece: larger images are cut into pieces of this size, at most `pieces`,
    and a thumbnail. most: tokens of an image at most; larger ones are scaled down.
    """

    height: int
    width: int
    patch: int
    merge: int = 1
    extra: int = 0
    row_ends: int = 0
    text: int = 0
    frames: int = 1
    frame_stride: int = 1
    fixed: bool = False
    pieces: int = 0
    most: int = 0
    pooled: int = 0  # tokens that one piece is pooled to, whatever its size
    vectors: int = 1  # that condition one sample, where they are made together (Chroma)

    def _sides(self) -> tuple[int, int]:
        side = self.patch * self.merge
        return max(round(self.height / side), 1), max(round(self.width / side), 1)

    def rows(self) -> dict[str, int]:
        """Rows of each stream in one sample (in one piece)."""
        down, across = self._sides()
        squares = down * across * ((self.frames - 1) // self.frame_stride + 1)
        if self.most:
            squares = min(squares, self.most)
        patches = squares * self.merge**2 + self.extra
        tokens = self.pooled or squares + down * self.row_ends
        rows = {"patch": patches, "token": tokens, "text": self.text, "joint": patches + self.text}
        fewer = {f"patch{4**i}": max(patches // 4**i, 1) for i in (1, 2, 3)}  # a network that halves both sides (Swin)
        return rows | fewer | {"frame": 2 * patches, "vectors": self.vectors, "once": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamNet(Described):
    """A network over streams of rows. `steps` and `passes` (of one step) are a diffusion model's usual ones."""

    name: str = ""
    title: str = ""
    family: str = ""
    stages: tuple[Stage, ...]
    grid: Grid
    steps: int = 0  # 0: no diffusion model
    passes: int = 1  # 2: with and without the prompt in every step (classifier-free guidance)
    weight_format: str | None = None
    published_params: float | None = None
    aliases: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def params(self) -> int:
        return sum(stage.stored for stage in self.stages)

    @property
    def layers(self) -> int:
        return sum(stage.count for stage in self.stages if stage.scores)

    def held_elements(self, *, all_layers: bool) -> int:
        """Activation elements of one sample alive at once: in and out of the widest layer, or of all (training)."""
        rows = self.grid.rows()
        each = [sum(rows[m.rows] * (m.k + m.n) for m in s.matrices) for s in self.stages]
        return sum(e * s.count for e, s in zip(each, self.stages, strict=True)) if all_layers else max(each)

    def at(self, height: int, width: int, frames: int | None = None) -> StreamNet:
        """The same network for images of another size, or videos of other lengths.

        Raises: InvalidInputError where it scales every image to its own size.
        """
        if self.grid.fixed:
            own = f"{self.grid.height}x{self.grid.width}"
            raise InvalidInputError(f"{self.name} scales every image to {own}: another size would not be read")
        sized = replace(self.grid, height=height, width=width, frames=self.grid.frames if frames is None else frames)
        return replace(self, grid=sized)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """An encoder beside a decoder: what it makes of one input of its `kind` joins the prompt as `tokens` tokens.

    net: the encoder and its projector, for one piece of an input. pieces: of one input at the standard size. cross: its states
    join no prompt but are seen by cross-attention (mllama). rule: the number of tokens in words.
    """

    kind: Kind
    net: StreamNet
    pieces: int = 1
    cross: bool = False
    rule: str = ""

    @property
    def params(self) -> int:
        return self.net.params

    @property
    def tokens(self) -> int:
        """Tokens of one input: of all its pieces."""
        return self.pieces * self.net.grid.rows()["token"]

    def at(self, height: int, width: int) -> Tower:
        """The same tower for images of another size: in its own grid, or in more pieces of a fixed one.

        Raises: InvalidInputError where it scales every image to its own size.
        """
        grid = self.net.grid
        if not grid.pieces:
            return replace(self, net=self.net.at(height, width))
        cut = min(-(-height // grid.height) * -(-width // grid.width), grid.pieces)
        return replace(self, pieces=cut + (cut > 1))
