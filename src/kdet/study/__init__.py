"""What needs whole runs or whole folders of images."""
