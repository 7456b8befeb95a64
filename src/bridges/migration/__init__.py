"""Batch migration: moves the runs of a config file to its targets with several workers."""
