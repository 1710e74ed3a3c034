"""Hostile inputs by the thousand: to every option of every command, every public callable, every kind of file.

`python -m benchmarks.fuzz cli|api|files` tries them for long and keeps what it counted in `benchmarks/results/`; the tests
try a seeded part of the same cases.
"""
