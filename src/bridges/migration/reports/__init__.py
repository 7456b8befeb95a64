"""The reports of a migration: JSON lines, and a page."""
