"""The files of a build: sub-models, tables, shards, a TensorRT plan. Not here: config.pbtxt, and where the folders go."""
