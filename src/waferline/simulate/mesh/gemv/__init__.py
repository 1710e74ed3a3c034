"""Distributed GEMV and weight-stationary batched GEMM on a mesh, with plain or block-quantised weights."""

from waferline.simulate.mesh.gemv.run import simulate_allreduce, simulate_gemv

__all__ = ["simulate_allreduce", "simulate_gemv"]
