"""The mesh parameter record, where simulator users look for it (it lives in `machines.mesh`)."""

from waferline.machines.mesh import MeshParameters, check_grid, load_parameters, parameter_set_names

__all__ = ["MeshParameters", "check_grid", "load_parameters", "parameter_set_names"]
