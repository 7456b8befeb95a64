"""Tables as sources: the CSV, TSV and JSON lines that loggers leave behind."""
