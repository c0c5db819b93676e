"""Benchmarks: paired runs, medians and ratios, for docs/benchmarks.md."""
