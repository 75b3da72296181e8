"""NVIDIA's perf_analyzer: found or fetched, fed with a build's own queries, run, its report read."""
