"""GPU kernels (extra `gpu`: torch and Triton). Importing this package imports neither.

`available.unavailable()` says why there is no GPU; every kernel is right against its CPU reference in Triton's
interpreter too, which needs no GPU and says nothing about speed.
"""
