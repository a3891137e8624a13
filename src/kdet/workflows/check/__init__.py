"""kdet check."""
