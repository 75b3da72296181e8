"""recsplit_perf measures what recsplit serves: input data, load, perf_analyzer, and benchmarks that back the claims in the docs.

It sits on recsplit, which never imports it; the command line finds its commands by name. Deciding what to do about a
measurement does not belong here.
"""
