"""Benchmarks: ratios against a baseline on the same machine, in one run."""
