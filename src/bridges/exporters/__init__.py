"""Exporters: where runs go. An exporter knows the neutral stream and no source."""
