"""Techniques: what changes the cost of a workload or of a machine, one published idea a file.

Each has its cost model and, where it is an algorithm, a small reference that really runs and is tested for exactness.
"""
