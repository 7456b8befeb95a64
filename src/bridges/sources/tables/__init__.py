"""Tables as sources: CSV, TSV and JSON lines from loggers."""
