"""Tuning: which settings of a build serve the most queries within the latency bound (DeepRecSys's question, and past it).

setting: what may be set. climb: DeepRecSched. joint: all at once. simulated: what a setting is worth by a profile. race: a few of them on a
server. tune: these in their order. ledger: what was tried, kept. retuned: the build with other settings. Measuring a live server is
recsplit_perf's.
"""
