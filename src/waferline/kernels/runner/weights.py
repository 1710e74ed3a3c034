"""The weights of a model in one packed arena: checked against the file and the memory before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from waferline.errors import DoesNotFitError, FileFormatError
from waferline.formats.tensors import TensorFile, TensorInfo
from waferline.kernels.cpu.aligned import aligned_empty
from waferline.kernels.cpu.packed import pack_into, packed_bytes
from waferline.kernels.cpu.tiles import CODES, ROWS, tile_of
from waferline.kernels.cpu.widen import kept_as, widened
from waferline.kernels.runner.config import NORMS, ModelConfig

# Columns of the operator table: where a matrix lies in the arena and how it is read.
OFFSET, ROW_TILES, BLOCKS, FORMAT, MATRIX_BYTES = range(5)
# Rows of it, per layer: one matrix each (the first of its kind for experts, which follow at MATRIX_BYTES).
MATRICES = (
    "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down",
    "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps",
    "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp",
)  # fmt: skip
Q, K, V, PROJECTION, GATE, UP, DOWN, ROUTER, GATES, UPS, DOWNS, SHARED_GATE, SHARED_UP, SHARED_DOWN = range(
    len(MATRICES)
)
# Some files keep matrices with the same input together, rows after rows.
_TOGETHER = {"attn_qkv": ("attn_q", "attn_k", "attn_v"), "ffn_up": ("ffn_gate", "ffn_up")}
_BIASED = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")


@dataclass(frozen=True, slots=True)
class Place:
    """One 2-D matrix (or `count` equal ones) of the model and its place in the arena: `rows` of a tensor from `first` on."""

    tensor: TensorInfo
    rows: int
    cols: int
    count: int
    offset: int
    first: int = 0

    @property
    def format(self) -> str:
        return kept_as(self.tensor.format)

    @property
    def matrix_bytes(self) -> int:
        return packed_bytes(self.format, self.rows, self.cols)

    @property
    def file_bytes(self) -> int:
        """Of one matrix, in the file."""
        return self.tensor.nbytes * self.rows * self.cols // self.tensor.weights


@dataclass(slots=True)
class Weights:
    """Everything the kernels read. `table` i64[layers + 1, MATRICES, 5]; row `layers`, column 0 is the output matrix.

    vectors: f32[layers, ...] by name, empty where the model has none.
    """

    arena: np.ndarray
    table: np.ndarray
    vectors: dict[str, np.ndarray]
    output_norm: np.ndarray
    rope_factors: np.ndarray | None
    places: dict[str, Place] = field(repr=False)
    file_bytes_per_token: int = 0  # bytes of the file's weights one decoded token reads


def read_weights(file: TensorFile, config: ModelConfig, memory_bytes: int, context: int) -> Weights:
    """Pack every matrix of the model.

    `memory_bytes`: what may be used. `context`: tokens of it, which choose the rotary factors. Raises `DoesNotFitError` (before
    allocating) when the packed weights exceed it, `FileFormatError` for missing tensors or wrong shapes, `UnsupportedError` for
    formats without kernels.
    """
    reader = _Reader(file, config, {t.name: t for t in file.tensors}, str(file.path))
    places, needed = reader.plan()
    if needed > memory_bytes:
        raise DoesNotFitError(
            f"the packed weights take {needed} bytes and {memory_bytes} are free",
            where=str(file.path),
            hint="a smaller model or format",
        )
    arena = aligned_empty(needed)
    table = np.zeros((config.layers + 1, len(MATRICES), 5), np.int64)
    for name, place in places.items():
        tile = tile_of(place.format)
        raw = widened(file.raw(place.tensor), place.tensor.format).reshape(place.count, -1)
        begin = raw.shape[1] * place.first * place.cols * place.count // place.tensor.weights
        length = raw.shape[1] * place.rows * place.cols * place.count // place.tensor.weights
        size = place.matrix_bytes
        for i in range(place.count):
            at = place.offset + i * size
            pack_into(tile, raw[i, begin : begin + length], place.rows, place.cols, arena[at : at + size])
        tiles = (-(-place.rows // ROWS), -(-place.cols // tile.block_k))
        table[reader.row_of(name)] = (place.offset, *tiles, CODES[tile.name], size)
    output_norm = reader.vector("output_norm.weight", config.d_model)
    per_token = sum(p.file_bytes * (config.experts_used if p.count > 1 else 1) for p in places.values())
    return Weights(arena, table, reader.vectors(), output_norm, reader.rope_factors(context), places, per_token)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Finds tensors by name and checks their shapes; holds no weights itself."""

    file: TensorFile
    config: ModelConfig
    tensors: dict[str, TensorInfo]
    where: str

    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """(count, rows, cols) of the matrices one layer has, by kind."""
        c = self.config
        shapes = {
            "attn_q": (1, c.q_width, c.d_model),
            "attn_k": (1, c.kv_width, c.d_model),
            "attn_v": (1, c.kv_width, c.d_model),
            "attn_output": (1, c.d_model, c.q_width),
        }

        def network(suffix: str, count: int, width: int) -> dict[str, tuple[int, int, int]]:
            into = dict.fromkeys((f"ffn_gate{suffix}", f"ffn_up{suffix}"), (count, width, c.d_model))
            return {**into, f"ffn_down{suffix}": (count, c.d_model, width)}

        if not c.experts:
            return shapes | network("", 1, c.ffn)
        shapes |= {"ffn_gate_inp": (1, c.experts, c.d_model), **network("_exps", c.experts, c.expert_ffn)}
        return shapes | (network("_shexp", 1, c.shared_ffn) if c.shared_ffn else {})

    def find(self, name: str) -> TensorInfo:
        if name not in self.tensors:
            raise FileFormatError(f"the file has no tensor '{name}'", where=self.where)
        return self.tensors[name]

    def _held(self, layer: int, kind: str) -> tuple[str, tuple[str, ...]]:
        """The tensor that holds a matrix, and all that it holds, in order."""
        for name, kinds in _TOGETHER.items():
            last = f"blk.{layer}.{kinds[0]}.weight"
            if kind in kinds and last not in self.tensors and f"blk.{layer}.{name}.weight" in self.tensors:
                return name, kinds
        return kind, (kind,)

    def plan(self) -> tuple[dict[str, Place], int]:
        """Where each matrix will lie, and the bytes of the arena. Only headers are read."""
        places: dict[str, Place] = {}
        offset, c, shapes = 0, self.config, self.shapes()
        head = "output.weight" if "output.weight" in self.tensors else "token_embd.weight"  # tied embeddings
        wanted = [(f"blk.{n}.{kind}.weight", n, kind) for n in range(c.layers) for kind in shapes]
        for name, layer, kind in [*wanted, (head, c.layers, "")]:
            count, rows, cols = shapes.get(kind, (1, c.vocabulary, c.d_model))
            holder, kinds = self._held(layer, kind)
            tensor = self.find(f"blk.{layer}.{holder}.weight" if kind else head)
            total = sum(shapes[k][1] for k in kinds) if kind else rows
            expected = (total, cols) if count == 1 and len(tensor.shape) == 2 else (count, total, cols)
            if tensor.shape != expected:
                raise FileFormatError(f"tensor '{tensor.name}' is {tensor.shape}, not {expected}", where=self.where)
            first = sum(shapes[k][1] for k in kinds[: kinds.index(kind)])
            places[name] = Place(tensor, rows, cols, count, offset, first)
            offset += count * places[name].matrix_bytes
        return places, offset

    def row_of(self, name: str) -> tuple[int, int]:
        if not name.startswith("blk."):
            return self.config.layers, 0
        _, layer, kind, _ = name.split(".")
        return int(layer), MATRICES.index(kind)

    def vector(self, name: str, *shape: int) -> np.ndarray:
        tensor = self.find(name)
        if tensor.weights != int(np.prod(shape)):
            raise FileFormatError(f"tensor '{name}' has {tensor.weights} elements, not {shape}", where=self.where)
        return np.ascontiguousarray(self.file.read(tensor).reshape(shape), np.float32)

    def rows(self, name: str, *shape: int, needed: bool = False) -> np.ndarray:
        """One vector a layer, f32[layers, ...]; empty when layer 0 has none and none is `needed`."""
        if f"blk.0.{name}" not in self.tensors and not needed:
            return np.zeros((0,) * (1 + len(shape)), np.float32)
        return np.stack([self.vector(f"blk.{n}.{name}", *shape) for n in range(self.config.layers)])

    def vectors(self) -> dict[str, np.ndarray]:
        """What is no matrix: norms by their place in the layer, norms of queries and keys, biases, sinks, the shared gate."""
        c, d = self.config, self.config.d_model
        none = np.zeros((0, 0), np.float32)
        names = dict(zip(NORMS, c.family.norms, strict=True))
        found = {
            f"{at}_norm": self.rows(f"{name}.weight", d, needed=True) if name else none for at, name in names.items()
        }
        for kind, width in (("q", c.q_width), ("k", c.kv_width)):
            first = self.tensors.get(f"blk.0.attn_{kind}_norm.weight")
            whole = first is not None and first.weights != c.head_dim
            found[f"{kind}_norm"] = (
                self.rows(f"attn_{kind}_norm.weight", width if whole else c.head_dim, needed=True)
                if c.family.qk_norms
                else none
            )
        shapes = self.shapes()
        for kind in _BIASED:
            count, rows, _ = shapes.get(kind, (1, 1, 0))
            together = self._bias(kind, shapes) if kind in _TOGETHER["attn_qkv"] else None
            found[f"{kind}_bias"] = (
                together
                if together is not None
                else self.rows(f"{kind}.bias", *((count, rows) if kind.endswith("exps") else (rows,)))
            )
        found["sinks"] = self.rows("attn_sinks.weight", c.heads)
        found["shared_gate"] = self.rows(
            "ffn_gate_inp_shexp.weight", d, needed=c.shared_ffn > 0 and c.architecture == "qwen2moe"
        )
        return found

    def _bias(self, kind: str, shapes: dict[str, tuple[int, int, int]]) -> np.ndarray | None:
        """The part of a bias that is kept for queries, keys and values together; None where there is none."""
        if "blk.0.attn_qkv.bias" not in self.tensors:
            return None
        kinds = _TOGETHER["attn_qkv"]
        ends = np.cumsum([0, *(shapes[k][1] for k in kinds)])
        at = kinds.index(kind)
        return np.ascontiguousarray(self.rows("attn_qkv.bias", int(ends[-1]))[:, ends[at] : ends[at + 1]])

    def rope_factors(self, context: int) -> np.ndarray | None:
        rope = self.config.ropes[0]
        name = "rope_freqs"
        if rope.by_length:
            name = "rope_factors_long" if context > rope.trained else "rope_factors_short"
        if f"{name}.weight" not in self.tensors and not rope.by_length:
            return None
        return self.vector(f"{name}.weight", rope.rotated // 2)
