"""Deciding: from what is seen and remembered to what is wanted of every target. No clock, no file, no network (a contract)."""
