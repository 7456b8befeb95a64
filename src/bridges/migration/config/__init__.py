"""The config file of a migration: its models, and how it is read."""
