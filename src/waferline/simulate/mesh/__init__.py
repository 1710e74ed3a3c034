"""A functional and cycle-level simulator of a 2-D mesh of small cores (see docs/mesh.md); `run.simulate` is its door."""
