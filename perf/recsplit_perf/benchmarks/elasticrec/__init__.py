"""ElasticRec's evaluation again, from its own profile and from a measured one: `python -m recsplit_perf.benchmarks.elasticrec`."""
