"""W&B as a source: the runs in `wandb/` folders and on servers."""
