"""The engine's recipe of an embedding model: its lookups as data in the place of operators, and why a model has none."""
