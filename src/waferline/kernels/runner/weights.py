"""The weights of a model in one packed arena: checked against the file and the memory before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from waferline.errors import DoesNotFitError, FileFormatError
from waferline.formats.tensors import TensorFile, TensorInfo
from waferline.kernels.cpu.aligned import aligned_empty
from waferline.kernels.cpu.packed import pack_into, packed_bytes
from waferline.kernels.cpu.tiles import CODES, ROWS, tile_of
from waferline.kernels.runner.config import ModelConfig

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
VECTORS = ("attn_norm", "ffn_norm", "attn_q_norm", "attn_k_norm")
BIASES = ("attn_q", "attn_k", "attn_v", "attn_output")


@dataclass(frozen=True, slots=True)
class Place:
    """One 2-D matrix (or `count` equal ones) of the model and its place in the arena."""

    tensor: TensorInfo
    rows: int
    cols: int
    count: int
    offset: int

    @property
    def matrix_bytes(self) -> int:
        return packed_bytes(self.tensor.format, self.rows, self.cols)


@dataclass(slots=True)
class Weights:
    """Everything the kernels read. `table` i64[layers + 1, MATRICES, 5]; row `layers`, column 0 is the output matrix."""

    arena: np.ndarray
    table: np.ndarray
    norms: dict[str, np.ndarray]  # f32[layers, width], or (0, 0) where the model has none
    biases: dict[str, np.ndarray]
    shared_gate: np.ndarray  # f32[layers, d_model] or (0, 0)
    output_norm: np.ndarray
    rope_factors: np.ndarray | None
    places: dict[str, Place] = field(repr=False)
    file_bytes_per_token: int = 0  # bytes of the file's weights one decoded token reads


def read_weights(file: TensorFile, config: ModelConfig, memory_bytes: int) -> Weights:
    """Pack every matrix of the model.

    `memory_bytes`: what may be used. Raises `DoesNotFitError` (before allocating) when the packed weights exceed it,
    `FileFormatError` for missing tensors or wrong shapes, `UnsupportedError` for formats without kernels.
    """
    tensors = {t.name: t for t in file.tensors}
    reader = _Reader(file, config, tensors)
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
        raw = file.raw(place.tensor).reshape(place.count, -1)
        size = place.matrix_bytes
        for i in range(place.count):
            begin = place.offset + i * size
            pack_into(tile_of(place.tensor.format), raw[i], place.rows, place.cols, arena[begin : begin + size])
        tile = tile_of(place.tensor.format)
        layer, kind = reader.row_of(name)
        table[layer, kind] = (
            place.offset,
            -(-place.rows // ROWS),
            -(-place.cols // tile.block_k),
            CODES[tile.name],
            size,
        )
    reader.check_experts(places)
    return Weights(
        arena, table, reader.norms(), reader.biases(), reader.rows("ffn_gate_inp_shexp", config.d_model),
        reader.vector("output_norm.weight", config.d_model), reader.rope_factors(), places, reader.bytes_per_token(places),
    )  # fmt: skip


class _Reader:
    """Finds tensors by name and checks their shapes; holds no weights itself."""

    def __init__(self, file: TensorFile, config: ModelConfig, tensors: dict[str, TensorInfo]) -> None:
        self.file, self.config, self.tensors, self.where = file, config, tensors, str(file.path)

    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """(count, rows, cols) of the matrices one layer has, by kind."""
        c = self.config
        shapes = {
            "attn_q": (1, c.q_width, c.d_model),
            "attn_k": (1, c.kv_width, c.d_model),
            "attn_v": (1, c.kv_width, c.d_model),
            "attn_output": (1, c.d_model, c.q_width),
        }
        if not c.experts:
            return shapes | {
                "ffn_gate": (1, c.ffn, c.d_model), "ffn_up": (1, c.ffn, c.d_model), "ffn_down": (1, c.d_model, c.ffn)
            }  # fmt: skip
        shapes |= {
            "ffn_gate_inp": (1, c.experts, c.d_model),
            "ffn_gate_exps": (c.experts, c.expert_ffn, c.d_model),
            "ffn_up_exps": (c.experts, c.expert_ffn, c.d_model),
            "ffn_down_exps": (c.experts, c.d_model, c.expert_ffn),
        }
        if c.shared_ffn:
            shapes |= {
                "ffn_gate_shexp": (1, c.shared_ffn, c.d_model), "ffn_up_shexp": (1, c.shared_ffn, c.d_model),
                "ffn_down_shexp": (1, c.d_model, c.shared_ffn),
            }  # fmt: skip
        return shapes

    def find(self, name: str) -> TensorInfo:
        if name not in self.tensors:
            raise FileFormatError(f"the file has no tensor '{name}'", where=self.where)
        return self.tensors[name]

    def plan(self) -> tuple[dict[str, Place], int]:
        """Where each matrix will lie, and the bytes of the arena. Only headers are read."""
        places: dict[str, Place] = {}
        offset = 0
        c = self.config
        wanted = {f"blk.{n}.{kind}.weight": shape for n in range(c.layers) for kind, shape in self.shapes().items()}
        head = "output.weight" if "output.weight" in self.tensors else "token_embd.weight"  # tied embeddings
        for name, (count, rows, cols) in (wanted | {head: (1, c.vocabulary, c.d_model)}).items():
            tensor = self.find(name)
            expected = (rows, cols) if count == 1 and len(tensor.shape) == 2 else (count, rows, cols)
            if tensor.shape != expected:
                raise FileFormatError(f"tensor '{name}' is {tensor.shape}, not {expected}", where=self.where)
            place = Place(tensor, rows, cols, count, offset)
            places[name] = place
            offset += count * place.matrix_bytes
        return places, offset

    def row_of(self, name: str) -> tuple[int, int]:
        if not name.startswith("blk."):
            return self.config.layers, 0
        _, layer, kind, _ = name.split(".")
        return int(layer), MATRICES.index(kind)

    def vector(self, name: str, width: int) -> np.ndarray:
        tensor = self.find(name)
        if tensor.weights != width:
            raise FileFormatError(f"tensor '{name}' has {tensor.weights} elements, not {width}", where=self.where)
        return np.ascontiguousarray(self.file.read(tensor).reshape(width), np.float32)

    def rows(self, kind: str, width: int, suffix: str = "weight") -> np.ndarray:
        """One vector a layer, f32[layers, width]; (0, 0) when layer 0 has none."""
        if f"blk.0.{kind}.{suffix}" not in self.tensors:
            return np.zeros((0, 0), np.float32)
        return np.stack([self.vector(f"blk.{n}.{kind}.{suffix}", width) for n in range(self.config.layers)])

    def norms(self) -> dict[str, np.ndarray]:
        c = self.config
        widths = {"attn_norm": c.d_model, "ffn_norm": c.d_model, "attn_q_norm": c.head_dim, "attn_k_norm": c.head_dim}
        found = {kind: self.rows(kind, width) for kind, width in widths.items()}
        needed = VECTORS if c.family.head_norms else VECTORS[:2]
        for kind in needed:
            if not found[kind].size:
                raise FileFormatError(f"the file has no tensor 'blk.0.{kind}.weight'", where=self.where)
        return found

    def biases(self) -> dict[str, np.ndarray]:
        c = self.config
        widths = {"attn_q": c.q_width, "attn_k": c.kv_width, "attn_v": c.kv_width, "attn_output": c.d_model}
        return {kind: self.rows(kind, widths[kind], "bias") for kind in BIASES}

    def rope_factors(self) -> np.ndarray | None:
        if "rope_freqs.weight" not in self.tensors:
            return None
        return self.vector("rope_freqs.weight", self.config.rotated // 2)

    def check_experts(self, places: dict[str, Place]) -> None:
        if self.config.shared_ffn and "blk.0.ffn_gate_inp_shexp.weight" not in self.tensors:
            raise FileFormatError("the file has no tensor 'blk.0.ffn_gate_inp_shexp.weight'", where=self.where)

    def bytes_per_token(self, places: dict[str, Place]) -> int:
        """Of experts only the chosen share is read."""
        c = self.config
        return sum(p.tensor.nbytes * (c.experts_used if p.count > 1 else 1) // p.count for p in places.values())


def available_memory_bytes() -> int:
    """What the system can give without swapping: MemAvailable on Linux, else free pages, else unlimited."""
    import os

    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 62
