"""Detectors of torchvision's structure, its own and kdet's."""
