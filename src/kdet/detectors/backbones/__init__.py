"""Backbones that teach features."""
