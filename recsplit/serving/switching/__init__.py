"""A running server taken to another build: loads beside what serves, one at a time. Not here: what lies on the disk (repository)."""
