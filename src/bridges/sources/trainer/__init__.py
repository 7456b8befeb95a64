"""The Trainer's states: one file, or the directory of a run."""
