"""Compile every Triton kernel for real GPUs: needs Triton's compiler, not a GPU. Prints one line a kernel."""

from __future__ import annotations

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from waferline.kernels.gpu import attention, fp8, int4, q4_k

# kernel, argument types in order, constants, and the least CUDA capability it needs
KERNELS = (
    (q4_k.gemv_kernel, "*u8 *fp16 *fp32 *fp32 i32 i32", {"ROWS": 4}, 80),
    (q4_k.gemm_kernel, "*u8 *fp16 *fp32 *fp32 i32 i32 i32", {"M": 16, "N": 32}, 80),
    (int4.gemv_kernel, "*u8 *fp16 *fp16 *fp32 *fp32 i32 i32", {"GROUP": 128, "ROWS": 4, "BYTES": 256}, 80),
    (int4.gemm_kernel, "*u8 *fp16 *fp16 *fp16 *fp32 i32 i32 i32", {"GROUP": 128, "M": 16, "N": 64, "BYTES": 32}, 80),
    (fp8.gemm_kernel, "*fp8e4nv *fp8e4nv *fp32 *fp32 *fp32 i32 i32 i32", {"M": 16, "N": 64, "K": 64}, 90),
    (
        attention.part_kernel,
        "*fp16 *fp16 *fp16 *i32 *fp32 *fp32 *fp32 fp32 i32 i32 i32",
        {"GROUP": 4, "G": 16, "D": 128, "SPLIT": 512, "CHUNK": 64},
        80,
    ),
)

if __name__ == "__main__":
    for kernel, types, constants, least in KERNELS:
        names = [n for n in kernel.arg_names if n not in constants]
        signature = {**dict(zip(names, types.split(), strict=True)), **dict.fromkeys(constants, "constexpr")}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        for capability in (80, 90):
            if capability >= least:
                built = triton.compile(source, target=GPUTarget("cuda", capability, 32))
                print(capability, kernel.__name__, len(built.asm["cubin"]) > 0)
