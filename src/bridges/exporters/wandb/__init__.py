"""Weights & Biases: offline runs in a folder, or runs on a server."""
