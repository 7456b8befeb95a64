"""TensorBoard event files: records, messages, and a columnar reader and writer."""
