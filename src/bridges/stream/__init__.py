"""The neutral model and its pure functions: no I/O, no tracker, no Trainer key."""
