"""The commands. A command's file declares its options and imports the work only when it is called."""
