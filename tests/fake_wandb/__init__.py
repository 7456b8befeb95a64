"""A fake W&B server for tests: see `tests.fake_wandb.server`."""
