"""Annotation formats: files of each become one index, or one clear line."""
