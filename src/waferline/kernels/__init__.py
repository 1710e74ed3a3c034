"""Operators that really run: on the CPU (Numba), on a GPU (Triton), with a plain reference beside each."""
