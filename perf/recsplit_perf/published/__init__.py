"""Measured numbers where readers see them: the index of perf/results, and claims that hold the docs to it."""
