"""File formats that sources and exporters both read."""
