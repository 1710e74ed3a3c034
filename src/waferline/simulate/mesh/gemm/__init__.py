"""Distributed GEMM on a mesh: MeshGEMM, Cannon, SUMMA, all-gather and GEMM-T, with real numbers and cycles."""

from waferline.simulate.mesh.gemm.run import simulate_gemm

__all__ = ["simulate_gemm"]
