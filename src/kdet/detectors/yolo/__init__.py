"""Detectors that score one point per cell, and libreyolo's set detectors."""
