"""What is looked for in a data set before it is used."""
