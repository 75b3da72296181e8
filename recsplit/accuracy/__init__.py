"""How well a model ranks: labelled rows, and the measures on them."""
