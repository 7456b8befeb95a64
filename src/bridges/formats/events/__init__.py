"""TensorBoard event files: records, messages, and a reader and a writer in columns."""
