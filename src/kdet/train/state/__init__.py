"""A run and what it leaves in its folder."""
