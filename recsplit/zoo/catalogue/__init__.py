"""The published models that the zoo brings along: their numbers, with the source of each."""
