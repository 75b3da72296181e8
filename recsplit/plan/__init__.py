"""What one build decided, as frozen values; the words for files, dtypes and ragged inputs that go with it.

Every other folder may import this one, and it imports nobody but `errors`. Not here: anything that changes after the build,
and anything that reads a model.
"""
