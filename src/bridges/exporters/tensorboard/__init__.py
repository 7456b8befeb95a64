"""TensorBoard: runs as event files in a log directory."""
