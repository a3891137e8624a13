"""Any module, by the paths of its layers or from the user's own function."""
