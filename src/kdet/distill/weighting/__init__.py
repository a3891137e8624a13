"""How much each term counts."""
