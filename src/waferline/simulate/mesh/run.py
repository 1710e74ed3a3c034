"""Any operator that a mesh runs, on a mesh: the door that `predict` and `measure` have, too."""

from __future__ import annotations

from typing import Any

from waferline.machines.mesh import MeshParameters
from waferline.simulate.mesh.gemm.run import simulate_gemm
from waferline.simulate.mesh.gemv.run import simulate_allreduce, simulate_gemv
from waferline.simulate.mesh.operators import product_sizes
from waferline.simulate.mesh.result import MeshResult
from waferline.workloads.operator import Operator


def simulate(op: Operator, p: MeshParameters, width: int, height: int, **options: Any) -> MeshResult:
    """Run `op` on `width` x `height` cores: an all-reduce, a GEMM, or a GEMV where a row of cores would not get a row of x.

    `options` are those of `simulate_gemm`, `simulate_gemv` or `simulate_allreduce`.

    Raises:
        UnsupportedError: a kind of operator that the mesh does not run.
    """
    if op.kind == "collective":
        return simulate_allreduce(op, p, width, height, **options)
    return (simulate_gemv if product_sizes(op)[0] < height else simulate_gemm)(op, p, width, height, **options)
