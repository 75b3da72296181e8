"""The demo: a ranker trained on a click log, and the commands that take it to a loaded server."""
