"""The reports of a migration: JSON lines and an HTML page."""
