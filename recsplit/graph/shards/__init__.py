"""Shards: the embedding model cut again where it reads its tables, and how the shards' answers join."""
