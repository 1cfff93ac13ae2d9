"""Benchmarks: what a guest's calls cost beside native ones. `python -m benchmarks` prints a table.

Layer: benchmarks. Touches child processes of its own and one temporary directory.
"""
