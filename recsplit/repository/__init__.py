"""Builds in a model repository on disk: found there, and brought there whole. Not here: what is in their files."""
