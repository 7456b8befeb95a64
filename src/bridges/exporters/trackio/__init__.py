"""Trackio: runs in the SQLite files of Hugging Face's tracker."""
