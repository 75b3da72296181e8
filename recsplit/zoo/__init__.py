"""Recommenders to try recsplit on: each factory returns what `recsplit build module:factory` takes.

A factory takes `batch` and `seed` by keyword and returns (module, example_inputs) or (module, example_inputs,
dynamic_shapes). Weights are the same on every call; `batch` and `seed` choose the example inputs only, so calling
a factory again gives fresh inputs for the same model. Modules are in eval mode. torch is allowed here; how a model
is loaded, cut or served does not belong here.
"""
