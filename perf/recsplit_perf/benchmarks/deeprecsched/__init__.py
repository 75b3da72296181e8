"""DeepRecSched on the eight models of its paper, and the joint tuner beside it: `python -m recsplit_perf.benchmarks.deeprecsched`.

curves: what a batch takes on one core. paper: the paper's setting, simulated with these curves. second: a threshold, and a second target.
ours: the joint tuner, simulated and on this machine. contents: what is shown of all that.
"""
