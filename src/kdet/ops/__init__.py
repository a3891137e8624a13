"""Pure functions on tensors and names; everything above may use them."""
