"""Observations of both models -> a loss's arguments."""
