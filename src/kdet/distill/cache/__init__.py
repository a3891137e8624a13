"""A teacher that looks at each image once."""
