"""Simulators: `mesh` (cores and routers of a wafer, cycle by cycle) and `serving` (requests in an inference engine)."""
