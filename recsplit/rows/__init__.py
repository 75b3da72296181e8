"""Rows of embedding tables as bytes: numpy in, numpy out."""
