"""Building: from a source to a published, proved model repository, stage by stage.

Not here: how a stage does its work; that is in load, graph, write, configs, proof and repository.
"""
