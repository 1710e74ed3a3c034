"""The event engine: routers and cores that move real words, one event at a time, in Numba."""

from waferline.simulate.mesh.engine.machine import MeshMachine, RunStatistics
from waferline.simulate.mesh.engine.program import Program

__all__ = ["MeshMachine", "Program", "RunStatistics"]
