"""Structural similarity of feature maps."""
