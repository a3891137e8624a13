"""The recipe: every setting once."""
