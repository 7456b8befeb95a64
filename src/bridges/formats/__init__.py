"""File formats shared by sources and exporters."""
