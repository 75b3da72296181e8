"""Finding: which nodes read rows of a table, by which ids, and why another node is no lookup. Nothing is changed here."""
