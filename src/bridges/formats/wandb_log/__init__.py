"""The log files of W&B runs: chunks, and history records in columns."""
