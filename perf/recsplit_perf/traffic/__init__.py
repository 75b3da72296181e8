"""Queries sent to servers, in closed and open loops, and what became of each."""
