"""CPU kernels in pure Python and Numba: no compiler is needed where they run.

packed = pack(tensor_bytes, "Q4_K", (14336, 4096))
y = matmul(packed, x, threads=2)              # int8 activations, as llama.cpp; exact=True keeps f32
"""

from waferline.kernels.cpu.matmul import Matmul, matmul
from waferline.kernels.cpu.packed import PackedMatrix, pack, packed_bytes
from waferline.kernels.cpu.warm import warm_up

__all__ = ["Matmul", "PackedMatrix", "matmul", "pack", "packed_bytes", "warm_up"]
