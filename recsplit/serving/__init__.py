"""A real Triton Inference Server on this machine, from a pip wheel, for the terminal, tests and notebooks."""

from recsplit.serving.server import Server, serve

__all__ = ["Server", "serve"]
