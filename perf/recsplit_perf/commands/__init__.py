"""The commands `recsplit perf` and `recsplit perf-data`: what they take and print, and nothing else."""
