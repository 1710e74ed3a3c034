"""Closed-form cycle counts on a mesh: pure functions of `MeshParameters` and sizes; every size may be an array."""
