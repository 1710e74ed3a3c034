"""ggml's own matrix product through ctypes, on the library that llama-cpp-python ships: the peer of each operator."""

from __future__ import annotations

import ctypes
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "BF16": 30, "TQ2_0": 35}
REPACKED = "CPU_REPACK"  # llama.cpp's default buffer: weights rearranged for the processor, where a kernel exists
PLAIN = "CPU"
TILES = "AMX"  # tile registers: what llama.cpp takes first where it was built for them
# The formats a buffer type has kernels for on x86; others crash in it.
_REARRANGED = {
    REPACKED: {"Q4_K", "Q4_0"},
    TILES: {"Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0"},
}


class _InitParams(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


# function -> (result, argument types); P is a pointer, Z a size
_P, _Z, _I, _L = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int64
_BASE = {
    "ggml_init": (_P, [_InitParams]),
    "ggml_log_set": (None, [_P, _P]),
    "ggml_new_tensor_2d": (_P, [_P, _I, _L, _L]),
    "ggml_mul_mat": (_P, [_P, _P, _P]),
    "ggml_new_graph_custom": (_P, [_P, _Z, ctypes.c_bool]),
    "ggml_build_forward_expand": (None, [_P, _P]),
    "ggml_backend_alloc_ctx_tensors_from_buft": (_P, [_P, _P]),
    "ggml_backend_tensor_set": (None, [_P, _P, _Z, _Z]),
    "ggml_backend_tensor_get": (None, [_P, _P, _Z, _Z]),
    "ggml_nbytes": (_Z, [_P]),
    "ggml_free": (None, [_P]),
    "ggml_backend_buffer_free": (None, [_P]),
    "ggml_backend_graph_compute": (_I, [_P, _P]),
    "ggml_backend_reg_get_proc_address": (_P, [_P, ctypes.c_char_p]),
    "ggml_backend_reg_dev_get": (_P, [_P, _Z]),
    "ggml_backend_buft_name": (ctypes.c_char_p, [_P]),
    "ggml_backend_cpu_buffer_type": (_P, []),
}
_CPU = {
    "ggml_backend_cpu_init": (_P, []),
    "ggml_backend_cpu_set_n_threads": (None, [_P, _I]),
    "ggml_backend_cpu_reg": (_P, []),
}


@dataclass(slots=True)
class Product:
    """A graph of equal products over several copies of one matrix, so that the weights come from memory."""

    graph: Any
    first: Any
    shape: tuple[int, int]
    copies: int
    owned: tuple[Any, ...]


class Ggml:
    """The library, its CPU backend and its buffer types by name."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None or spec.origin is None:
            raise ImportError("llama-cpp-python is not installed")
        folder = Path(spec.origin).parent / "lib"
        self.base = _typed(ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL), _BASE)
        self.cpu = _typed(ctypes.CDLL(str(folder / "libggml-cpu.so"), mode=ctypes.RTLD_GLOBAL), _CPU)
        self._quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, _P)(lambda level, text, data: None)
        self.base.ggml_log_set(self._quiet, None)
        self.backend = self.cpu.ggml_backend_cpu_init()
        device = self.base.ggml_backend_reg_dev_get(self.cpu.ggml_backend_cpu_reg(), 0)
        find = self.base.ggml_backend_reg_get_proc_address(
            self.cpu.ggml_backend_cpu_reg(), b"ggml_backend_dev_get_extra_bufts"
        )
        self.buffers = {PLAIN: self.base.ggml_backend_cpu_buffer_type()}
        extra = ctypes.CFUNCTYPE(ctypes.POINTER(_P), _P)(find)(device)
        i = 0
        while extra[i]:
            self.buffers[self.base.ggml_backend_buft_name(extra[i]).decode()] = extra[i]
            i += 1

    def kinds(self, format: str) -> list[str]:
        """The buffer types that have a kernel for a format."""
        return [PLAIN, *(kind for kind, of in _REARRANGED.items() if format in of and kind in self.buffers)]

    def product(
        self, format: str, rows: int, cols: int, data: np.ndarray, x: np.ndarray, copies: int, kind: str
    ) -> Product:
        """Prepare `copies` products of one matrix (GGUF bytes) with x f32[n, cols]."""
        b, n = self.base, x.shape[0]
        weights, work = b.ggml_init(_InitParams(1 << 20, None, True)), b.ggml_init(_InitParams(8 << 20, None, True))
        tensors = [b.ggml_new_tensor_2d(weights, TYPES[format], cols, rows) for _ in range(copies)]
        held = b.ggml_backend_alloc_ctx_tensors_from_buft(weights, self.buffers[kind])
        for tensor in tensors:
            assert b.ggml_nbytes(tensor) == data.nbytes
            b.ggml_backend_tensor_set(tensor, data.ctypes.data, 0, data.nbytes)
        right = b.ggml_new_tensor_2d(work, TYPES["F32"], cols, n)
        graph = b.ggml_new_graph_custom(work, 4096, False)
        outputs = [b.ggml_mul_mat(work, tensor, right) for tensor in tensors]
        for output in outputs:
            b.ggml_build_forward_expand(graph, output)
        scratch = b.ggml_backend_alloc_ctx_tensors_from_buft(work, self.buffers[PLAIN])
        x = np.ascontiguousarray(x, np.float32)
        b.ggml_backend_tensor_set(right, x.ctypes.data, 0, x.nbytes)
        return Product(graph, outputs[0], (n, rows), copies, (held, scratch, weights, work))

    def run(self, product: Product, threads: int) -> None:
        self.cpu.ggml_backend_cpu_set_n_threads(self.backend, threads)
        if self.base.ggml_backend_graph_compute(self.backend, product.graph) != 0:
            raise RuntimeError("ggml_backend_graph_compute failed")

    def result(self, product: Product) -> np.ndarray:
        """The first product, f32[n, rows]."""
        y = np.empty(product.shape, np.float32)
        self.base.ggml_backend_tensor_get(product.first, y.ctypes.data, 0, y.nbytes)
        return y

    def free(self, product: Product) -> None:
        held, scratch, weights, work = product.owned
        for buffer in (held, scratch):
            self.base.ggml_backend_buffer_free(buffer)
        for context in (weights, work):
            self.base.ggml_free(context)


def _typed(library: Any, functions: dict[str, tuple[Any, list[Any]]]) -> Any:
    for name, (result, arguments) in functions.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
