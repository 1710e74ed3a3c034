"""Benchmarks: slow, noisy, and never part of the tests. `make bench` runs them all."""
