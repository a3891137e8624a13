"""kdet search."""
