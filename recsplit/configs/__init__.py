"""Triton's config.pbtxt: rendered from a plan, parsed back, checked along the ensemble, changed for a fleet. Pure."""
