"""Exporters write runs into targets. They depend on the neutral stream only, not on sources."""
