"""The config file of a migration: its models and its loader."""
