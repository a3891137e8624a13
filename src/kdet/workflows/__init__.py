"""What needs whole runs or whole folders, a file or folder for each command."""
