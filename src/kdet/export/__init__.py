"""A detector → a file for the device, and the file → detections again."""
