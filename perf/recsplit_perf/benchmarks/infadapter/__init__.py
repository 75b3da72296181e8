"""InfAdapter's evaluation again, from its authors' capacities and trace: `python -m recsplit_perf.benchmarks.infadapter DATA`."""
