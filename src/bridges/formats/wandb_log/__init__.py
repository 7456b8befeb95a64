"""The log files of W&B runs: chunks, and columnar history records."""
