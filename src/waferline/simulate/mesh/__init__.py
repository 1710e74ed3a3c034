"""A functional and cycle-level simulator of a 2-D mesh of small cores (see docs/mesh.md)."""

from waferline.machines.mesh import MeshParameters, load_parameters, parameter_set_names

__all__ = ["MeshParameters", "load_parameters", "parameter_set_names"]
