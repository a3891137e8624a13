"""kdet compare."""
