"""Parquet and CSV: runs as tables of points, texts, params and runs."""
