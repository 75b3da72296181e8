"""Benchmarks that back the claims in the docs: each is one command, and writes one JSON file for perf/results/."""
