"""Sources: what can be read as runs. A source knows the neutral stream and no target."""
