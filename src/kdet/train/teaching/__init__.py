"""A recipe's teachers, and what is asked of them."""
